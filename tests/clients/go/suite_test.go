// Package clients runs Docker's own Go SDK through every area of the API.
package clients

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

const image = "busybox:latest"

var (
	ctx     = context.Background()
	api     *client.Client
	results sync.Mutex
)

func TestMain(m *testing.M) {
	var err error
	if api, err = client.New(client.FromEnv); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// begin reports the test's outcome to `cargo xtask` when it ends.
func begin(t *testing.T) {
	t.Helper()
	started := time.Now()
	t.Cleanup(func() {
		path := os.Getenv("FERRY_TEST_RESULTS")
		if path == "" {
			return
		}
		line := map[string]any{
			"name":    "go::" + strings.TrimPrefix(t.Name(), "Test"),
			"outcome": "passed",
			"reason":  nil,
			"seconds": time.Since(started).Seconds(),
		}
		if t.Failed() {
			line["outcome"] = "failed"
		} else if t.Skipped() {
			line["outcome"], line["reason"] = "skipped", skipReason(t)
		}
		text, _ := json.Marshal(line)
		results.Lock()
		defer results.Unlock()
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Error(err)
			return
		}
		defer file.Close()
		if _, err := file.Write(append(text, '\n')); err != nil {
			t.Error(err)
		}
	})
}

var reasons sync.Map

func skip(t *testing.T, reason string) {
	t.Helper()
	reasons.Store(t.Name(), reason)
	t.Skip(reason)
}

func skipReason(t *testing.T) any {
	reason, _ := reasons.Load(t.Name())
	return reason
}

func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused expects an error whose text holds a part, and an answer to whether it is of a kind.
func refused(t *testing.T, err error, kind func(error) bool, part string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if kind != nil && !kind(err) {
		t.Fatalf("an error of another kind: %v", err)
	}
	if !strings.Contains(err.Error(), part) {
		t.Fatalf("%q is not in %q", part, err)
	}
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func unique() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b)
	return "go-" + hex.EncodeToString(b)
}

// create makes a container that is removed with the test.
func create(t *testing.T, options client.ContainerCreateOptions, command ...string) string {
	t.Helper()
	if options.Config == nil {
		options.Config = &container.Config{}
	}
	if options.Config.Image == "" {
		options.Config.Image = image
	}
	options.Config.Cmd = command
	made := must(api.ContainerCreate(ctx, options))(t)
	t.Cleanup(func() {
		_, _ = api.ContainerRemove(ctx, made.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	})
	return made.ID
}

func run(t *testing.T, options client.ContainerCreateOptions, command ...string) string {
	t.Helper()
	id := create(t, options, command...)
	must(api.ContainerStart(ctx, id, client.ContainerStartOptions{}))(t)
	return id
}

// wait gives the exit code of a container that ends.
func wait(t *testing.T, id string) int64 {
	t.Helper()
	answer := api.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case result := <-answer.Result:
		return result.StatusCode
	case err := <-answer.Error:
		t.Fatal(err)
	case <-time.After(30 * time.Second):
		t.Fatal("the container does not end")
	}
	return -1
}

func inspect(t *testing.T, id string) container.InspectResponse {
	t.Helper()
	return must(api.ContainerInspect(ctx, id, client.ContainerInspectOptions{}))(t).Container
}

func demultiplex(t *testing.T, from io.Reader) (string, string) {
	t.Helper()
	var out, err bytes.Buffer
	if _, e := stdcopy.StdCopy(&out, &err, from); e != nil {
		t.Fatal(e)
	}
	return out.String(), err.String()
}

func drain(t *testing.T, body io.ReadCloser) []byte {
	t.Helper()
	defer body.Close()
	return must(io.ReadAll(body))(t)
}

func archive(t *testing.T, name, content string) *bytes.Buffer {
	t.Helper()
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	check(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o640, Size: int64(len(content))}))
	must(w.Write([]byte(content)))(t)
	check(t, w.Close())
	return &buffer
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within ten seconds: " + what)
		}
	}
}

