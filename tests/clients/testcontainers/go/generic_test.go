package testcontainers

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

const server = "mkdir /w; echo served > /w/index.html; sleep 0.5; exec httpd -f -p 8080 -h /w"

func TestWaitsForALineOfTheLog(t *testing.T) {
	begin(t)
	c := shell(t, "sleep 0.7; echo ready to serve; echo aside >&2; sleep 60", tc.WithWaitStrategy(wait.ForLog("ready to serve")))
	logs, err := c.Logs(ctx)
	check(t, err)
	defer logs.Close()
	text := make([]byte, len("ready to serve\n"))
	_, err = io.ReadFull(logs, text)
	check(t, err)
	equal(t, string(text), "ready to serve\n")
}

func TestWaitsInVainForALineOfTheLog(t *testing.T) {
	begin(t)
	c, err := tc.Run(ctx, busybox, tc.WithCmd("sh", "-c", "echo other; sleep 60"),
		tc.WithWaitStrategyAndDeadline(2*time.Second, wait.ForLog("ready")))
	tc.CleanupContainer(t, c, tc.StopTimeout(0))
	if err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
		t.Fatalf("no deadline in %v", err)
	}
}

func TestWaitsForAnEndThatCameTooEarly(t *testing.T) {
	begin(t)
	c, err := tc.Run(ctx, busybox, tc.WithCmd("sh", "-c", "echo broken; exit 3"),
		tc.WithWaitStrategyAndDeadline(20*time.Second, wait.ForLog("ready")))
	tc.CleanupContainer(t, c, tc.StopTimeout(0))
	if err == nil || !strings.Contains(err.Error(), "container exited with code 3") {
		t.Fatalf("no exit code in %v", err)
	}
}

func TestWaitsForPortsAndAnswersOverHTTP(t *testing.T) {
	begin(t)
	c := shell(t, server, tc.WithExposedPorts("8080/tcp"), tc.WithWaitStrategy(
		wait.ForListeningPort("8080/tcp"), wait.ForHTTP("/index.html").WithPort("8080/tcp")))
	endpoint, err := c.PortEndpoint(ctx, "8080/tcp", "http")
	check(t, err)
	answer, err := http.Get(endpoint + "/index.html")
	check(t, err)
	defer answer.Body.Close()
	equal(t, all(t, answer.Body), "served\n")
}

func TestWaitsForHealth(t *testing.T) {
	begin(t)
	c := shell(t, "sleep 0.7; touch /tmp/done; sleep 60",
		tc.WithConfigModifier(func(config *container.Config) {
			config.Healthcheck = &container.HealthConfig{
				Test: []string{"CMD-SHELL", "test -e /tmp/done"}, Interval: 300 * time.Millisecond, Retries: 50,
			}
		}),
		tc.WithWaitStrategy(wait.ForHealthCheck()))
	state, err := c.State(ctx)
	check(t, err)
	equal(t, string(state.Health.Status), "healthy")
}

func TestWaitsForCommandsFilesAndTheEnd(t *testing.T) {
	begin(t)
	shell(t, "sleep 0.7; echo 1 > /tmp/done; sleep 60", tc.WithWaitStrategy(
		wait.ForExec([]string{"test", "-e", "/tmp/done"}), wait.ForFile("/tmp/done")))
	c := shell(t, "sleep 0.3; exit 4", tc.WithWaitStrategy(wait.ForExit()))
	state, err := c.State(ctx)
	check(t, err)
	equal(t, state.ExitCode, 4)
}

func TestExecGivesStatusAndStreams(t *testing.T) {
	begin(t)
	c := shell(t, "sleep 60")
	code, output, err := c.Exec(ctx, []string{"sh", "-c", "id -u; pwd; echo $V; exit 3"}, exec.Multiplexed(),
		exec.WithUser("33"), exec.WithWorkingDir("/tmp"), exec.WithEnv([]string{"V=given"}))
	check(t, err)
	equal(t, code, 3)
	equal(t, all(t, output), "33\n/tmp\ngiven\n")
}

func TestCopiesBothWays(t *testing.T) {
	begin(t)
	c := shell(t, "cat /given/file; sleep 60", tc.WithWaitStrategy(wait.ForLog("by the test")), tc.WithFiles(
		tc.ContainerFile{Reader: strings.NewReader("by the test\n"), ContainerFilePath: "/given/file", FileMode: 0o644}))
	check(t, c.CopyToContainer(ctx, []byte("later\n"), "/tmp/later", 0o600))
	file, err := c.CopyFileFromContainer(ctx, "/tmp/later")
	check(t, err)
	defer file.Close()
	equal(t, all(t, file), "later\n")
	_, err = c.CopyFileFromContainer(ctx, "/nothing")
	if !errdefs.IsNotFound(err) {
		t.Fatalf("not found was expected, not %v", err)
	}
}

// lines collects what a container writes.
type lines struct{ texts chan string }

func (l lines) Accept(log tc.Log) { l.texts <- log.LogType + " " + string(log.Content) }

func TestLogsAreStreamed(t *testing.T) {
	begin(t)
	consumer := lines{make(chan string, 10)}
	shell(t, "echo one; sleep 0.5; echo two >&2; sleep 60", tc.WithLogConsumers(consumer), tc.WithWaitStrategy(wait.ForLog("two")))
	for _, want := range []string{"STDOUT one\n", "STDERR two\n"} {
		select {
		case got := <-consumer.texts:
			equal(t, got, want)
		case <-time.After(10 * time.Second):
			t.Fatalf("%q did not come", want)
		}
	}
}

func TestStopAndStart(t *testing.T) {
	begin(t)
	c := shell(t, "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done", tc.WithWaitStrategy(wait.ForLog("up")))
	check(t, c.Stop(ctx, nil))
	equal(t, c.IsRunning(), false)
	check(t, c.Start(ctx))
	equal(t, c.IsRunning(), true)
	check(t, c.Terminate(ctx, tc.StopTimeout(0)))
	if _, err := c.Inspect(ctx); !errdefs.IsNotFound(err) {
		t.Fatalf("not found was expected, not %v", err)
	}
}

func TestNetworkOfItsOwn(t *testing.T) {
	begin(t)
	own, err := network.New(ctx)
	unlessMissing(t, err)
	tc.CleanupNetwork(t, own)
	shell(t, server, network.WithNetwork([]string{"server"}, own))
	shell(t, "until wget -q -O - http://server:8080/index.html; do sleep 0.2; done; sleep 60",
		network.WithNetwork(nil, own), tc.WithWaitStrategy(wait.ForLog("served")))
}
