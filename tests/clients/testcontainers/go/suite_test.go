// Package testcontainers starts servers the way tests of applications written in Go do.
package testcontainers

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	tc "github.com/testcontainers/testcontainers-go"
)

const (
	busybox  = "busybox:latest"
	database = "mariadb:latest"
	cache    = "redis:latest"
)

var (
	ctx     = context.Background()
	results sync.Mutex
	reasons sync.Map
)

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
			"name":    strings.TrimPrefix(t.Name(), "Test"),
			"outcome": "passed",
			"reason":  nil,
			"seconds": time.Since(started).Seconds(),
		}
		if t.Failed() {
			line["outcome"] = "failed"
		} else if t.Skipped() {
			line["outcome"] = "skipped"
			line["reason"], _ = reasons.Load(t.Name())
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

// unlessMissing skips the test when the engine says that it does not have something yet.
func unlessMissing(t *testing.T, err error) {
	t.Helper()
	if errdefs.IsNotImplemented(err) {
		reasons.Store(t.Name(), err.Error())
		t.Skip(err)
	}
	check(t, err)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// shell runs a script in a container that is removed with the test.
func shell(t *testing.T, script string, more ...tc.ContainerCustomizer) *tc.DockerContainer {
	t.Helper()
	options := append([]tc.ContainerCustomizer{tc.WithCmd("sh", "-c", script)}, more...)
	container, err := tc.Run(ctx, busybox, options...)
	tc.CleanupContainer(t, container, tc.StopTimeout(0))
	check(t, err)
	return container
}

func all(t *testing.T, from io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(from)
	check(t, err)
	return string(text)
}
