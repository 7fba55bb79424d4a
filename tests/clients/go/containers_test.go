package clients

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

var zero = 0

func TestLife(t *testing.T) {
	begin(t)
	name := unique()
	id := create(t, client.ContainerCreateOptions{Name: name}, "sleep", "600")
	equal(t, string(inspect(t, id).State.Status), "created")
	must(api.ContainerStart(ctx, id, client.ContainerStartOptions{}))(t)
	must(api.ContainerStart(ctx, id, client.ContainerStartOptions{}))(t)
	must(api.ContainerPause(ctx, id, client.ContainerPauseOptions{}))(t)
	equal(t, inspect(t, id).State.Paused, true)
	must(api.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{}))(t)
	must(api.ContainerRename(ctx, id, client.ContainerRenameOptions{NewName: name + "-renamed"}))(t)
	equal(t, inspect(t, id).Name, "/"+name+"-renamed")
	must(api.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{
		Resources: &container.Resources{Memory: 64 << 20, MemorySwap: 64 << 20},
	}))(t)
	equal(t, inspect(t, id).HostConfig.Memory, int64(64<<20))
	must(api.ContainerRestart(ctx, id, client.ContainerRestartOptions{Timeout: &zero}))(t)
	must(api.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &zero}))(t)
	equal(t, wait(t, id), 137)
	must(api.ContainerStart(ctx, id, client.ContainerStartOptions{}))(t)
	must(api.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "SIGKILL"}))(t)
	equal(t, wait(t, id), 137)
	must(api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{}))(t)
	_, err := api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	refused(t, err, cerrdefs.IsNotFound, "No such container")
}

func TestRefusals(t *testing.T) {
	begin(t)
	name := unique()
	id := run(t, client.ContainerCreateOptions{Name: name}, "sleep", "600")
	_, err := api.ContainerCreate(ctx, client.ContainerCreateOptions{Name: name, Config: &container.Config{Image: image}})
	refused(t, err, cerrdefs.IsConflict, "is already in use by container")
	_, err = api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{})
	refused(t, err, cerrdefs.IsConflict, "container is running")
	_, err = api.ContainerCreate(ctx, client.ContainerCreateOptions{Image: "no-such-image:1"})
	refused(t, err, cerrdefs.IsNotFound, "No such image")
	_, err = api.ContainerList(ctx, client.ContainerListOptions{Filters: client.Filters{}.Add("bogus", "x")})
	refused(t, err, cerrdefs.IsInvalidArgument, "invalid filter 'bogus'")
	bad := create(t, client.ContainerCreateOptions{}, "/no/such/program")
	_, err = api.ContainerStart(ctx, bad, client.ContainerStartOptions{})
	refused(t, err, cerrdefs.IsInvalidArgument, "no such file or directory")
}

func TestListsAndFilters(t *testing.T) {
	begin(t)
	name := unique()
	labels := map[string]string{"suite": name}
	running := run(t, client.ContainerCreateOptions{Name: name, Config: &container.Config{Labels: labels}}, "sleep", "600")
	ended := run(t, client.ContainerCreateOptions{Config: &container.Config{Labels: labels}}, "true")
	wait(t, ended)
	list := func(options client.ContainerListOptions) string {
		var ids []string
		for _, c := range must(api.ContainerList(ctx, options))(t).Items {
			ids = append(ids, c.ID)
		}
		return strings.Join(ids, " ")
	}
	label := func() client.Filters { return client.Filters{}.Add("label", "suite="+name) }
	equal(t, list(client.ContainerListOptions{Filters: label()}), running)
	equal(t, list(client.ContainerListOptions{All: true, Filters: label()}), ended+" "+running)
	equal(t, list(client.ContainerListOptions{All: true, Filters: label().Add("status", "exited")}), ended)
	equal(t, list(client.ContainerListOptions{Filters: client.Filters{}.Add("name", "^"+name+"$")}), running)
}

func TestTopAndChanges(t *testing.T) {
	begin(t)
	id := run(t, client.ContainerCreateOptions{}, "sh", "-c", "echo x > /tmp/made; sleep 600")
	eventually(t, "the change", func() bool {
		for _, c := range must(api.ContainerDiff(ctx, id, client.ContainerDiffOptions{}))(t).Changes {
			if c.Path == "/tmp/made" && c.Kind == container.ChangeAdd {
				return true
			}
		}
		return false
	})
	top := must(api.ContainerTop(ctx, id, client.ContainerTopOptions{Arguments: []string{"-o", "pid,cmd"}}))(t)
	equal(t, strings.Join(top.Titles, ","), "PID,CMD")
}

func TestExecWithSeparateStreams(t *testing.T) {
	begin(t)
	id := run(t, client.ContainerCreateOptions{}, "sleep", "600")
	exec := must(api.ExecCreate(ctx, id, client.ExecCreateOptions{
		Cmd: []string{"sh", "-c", "cat; echo err >&2; exit 4"}, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	}))(t)
	stream := must(api.ExecAttach(ctx, exec.ID, client.ExecAttachOptions{}))(t)
	defer stream.Close()
	must(io.WriteString(stream.Conn, "through cat\n"))(t)
	check(t, stream.CloseWrite())
	out, err := demultiplex(t, stream.Reader)
	equal(t, out, "through cat\n")
	equal(t, err, "err\n")
	state := must(api.ExecInspect(ctx, exec.ID, client.ExecInspectOptions{}))(t)
	equal(t, state.ExitCode, 4)
	equal(t, state.Running, false)
}

func TestExecWithTerminal(t *testing.T) {
	begin(t)
	id := run(t, client.ContainerCreateOptions{}, "sleep", "600")
	exec := must(api.ExecCreate(ctx, id, client.ExecCreateOptions{
		Cmd: []string{"sh", "-c", "sleep 0.3; stty size"}, AttachStdout: true, TTY: true,
	}))(t)
	stream := must(api.ExecAttach(ctx, exec.ID, client.ExecAttachOptions{TTY: true}))(t)
	defer stream.Close()
	must(api.ExecResize(ctx, exec.ID, client.ExecResizeOptions{Height: 20, Width: 60}))(t)
	equal(t, string(must(io.ReadAll(stream.Reader))(t)), "20 60\r\n")
}

func TestExecDetached(t *testing.T) {
	begin(t)
	id := run(t, client.ContainerCreateOptions{}, "sleep", "600")
	exec := must(api.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"sleep", "600"}}))(t)
	must(api.ExecStart(ctx, exec.ID, client.ExecStartOptions{Detach: true}))(t)
	equal(t, must(api.ExecInspect(ctx, exec.ID, client.ExecInspectOptions{}))(t).Running, true)
	equal(t, len(inspect(t, id).ExecIDs), 1)
}

func TestAttachBeforeStart(t *testing.T) {
	begin(t)
	id := create(t, client.ContainerCreateOptions{Config: &container.Config{OpenStdin: true, StdinOnce: true, AttachStdin: true}}, "cat")
	stream := must(api.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true}))(t)
	defer stream.Close()
	must(api.ContainerStart(ctx, id, client.ContainerStartOptions{}))(t)
	must(io.WriteString(stream.Conn, "hello cat\n"))(t)
	check(t, stream.CloseWrite())
	out, _ := demultiplex(t, stream.Reader)
	equal(t, out, "hello cat\n")
	equal(t, wait(t, id), 0)
}

func TestLogs(t *testing.T) {
	begin(t)
	id := run(t, client.ContainerCreateOptions{}, "sh", "-c", "echo out; echo err >&2")
	wait(t, id)
	logs := must(api.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true}))(t)
	out, err := demultiplex(t, logs)
	equal(t, out+err, "out\nerr\n")
	follower := run(t, client.ContainerCreateOptions{}, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
	logs = must(api.ContainerLogs(ctx, follower, client.ContainerLogsOptions{ShowStdout: true, Follow: true}))(t)
	out, _ = demultiplex(t, logs)
	equal(t, out, "1\n2\n3\n")
	logs = must(api.ContainerLogs(ctx, follower, client.ContainerLogsOptions{ShowStdout: true, Tail: "1", Timestamps: true}))(t)
	out, _ = demultiplex(t, logs)
	stamp, line, _ := strings.Cut(out, " ")
	equal(t, line, "3\n")
	must(time.Parse(time.RFC3339Nano, stamp))(t)
}

func TestEvents(t *testing.T) {
	begin(t)
	name := unique()
	stream := api.Events(ctx, client.EventsListOptions{
		Filters: client.Filters{}.Add("label", "suite="+name).Add("type", "container"),
	})
	time.Sleep(200 * time.Millisecond)
	id := run(t, client.ContainerCreateOptions{Config: &container.Config{Labels: map[string]string{"suite": name}}}, "true")
	wait(t, id)
	must(api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{}))(t)
	for _, want := range []events.Action{events.ActionCreate, events.ActionStart, events.ActionDie, events.ActionDestroy} {
		select {
		case got := <-stream.Messages:
			equal(t, got.Action, want)
			equal(t, got.Actor.ID, id)
		case err := <-stream.Err:
			t.Fatal(err)
		case <-time.After(10 * time.Second):
			t.Fatalf("no event %s", want)
		}
	}
}

func TestStats(t *testing.T) {
	begin(t)
	id := run(t, client.ContainerCreateOptions{}, "sleep", "600")
	once := must(api.ContainerStats(ctx, id, client.ContainerStatsOptions{}))(t)
	var sample container.StatsResponse
	check(t, json.Unmarshal(drain(t, once.Body), &sample))
	if sample.MemoryStats.Usage == 0 || sample.PidsStats.Current == 0 {
		t.Fatalf("%+v", sample)
	}
	stream := must(api.ContainerStats(ctx, id, client.ContainerStatsOptions{Stream: true}))(t)
	defer stream.Body.Close()
	decoder := json.NewDecoder(bufio.NewReader(stream.Body))
	for range 2 {
		check(t, decoder.Decode(&sample))
	}
	equal(t, sample.ID, id)
	if sample.PreCPUStats.CPUUsage.TotalUsage == 0 {
		t.Fatal("the second sample does not know the first")
	}
}

func TestArchives(t *testing.T) {
	begin(t)
	id := run(t, client.ContainerCreateOptions{}, "sleep", "600")
	must(api.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/tmp", Content: archive(t, "given", "content")}))(t)
	stat := must(api.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: "/tmp/given"}))(t).Stat
	equal(t, stat.Size, 7)
	copied := must(api.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/tmp/given"}))(t)
	if !strings.Contains(string(drain(t, copied.Content)), "content") {
		t.Fatal("the file is not in the archive")
	}
	_, err := api.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/no/such"})
	refused(t, err, cerrdefs.IsNotFound, "Could not find the file /no/such in container")
}

func TestContainerPrune(t *testing.T) {
	begin(t)
	name := unique()
	id := run(t, client.ContainerCreateOptions{Config: &container.Config{Labels: map[string]string{"suite": name}}}, "true")
	wait(t, id)
	report := must(api.ContainerPrune(ctx, client.ContainerPruneOptions{Filters: client.Filters{}.Add("label", "suite="+name)}))(t).Report
	equal(t, strings.Join(report.ContainersDeleted, " "), id)
}
