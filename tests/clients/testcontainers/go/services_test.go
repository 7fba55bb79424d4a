package testcontainers

import (
	"bufio"
	"database/sql"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/modules/mariadb"
	"github.com/testcontainers/testcontainers-go/modules/redis"
	"github.com/testcontainers/testcontainers-go/wait"
)

// ask sends one command to a Redis and gives the first line of its answer.
func ask(t *testing.T, address, command string) string {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	check(t, err)
	defer connection.Close()
	_, err = fmt.Fprintf(connection, "%s\r\n", command)
	check(t, err)
	line, err := bufio.NewReader(connection).ReadString('\n')
	check(t, err)
	return line
}

func TestRedisAnswersOnItsMappedPort(t *testing.T) {
	begin(t)
	container, err := redis.Run(ctx, cache)
	tc.CleanupContainer(t, container, tc.StopTimeout(0))
	check(t, err)
	address, err := container.PortEndpoint(ctx, "6379/tcp", "")
	check(t, err)
	equal(t, ask(t, address, "SET key value"), "+OK\r\n")
	code, output, err := container.Exec(ctx, []string{"redis-cli", "get", "key"}, exec.Multiplexed())
	check(t, err)
	equal(t, code, 0)
	equal(t, all(t, output), "value\n")
}

func TestRedisWithAConfigurationFile(t *testing.T) {
	begin(t)
	file := filepath.Join(t.TempDir(), "redis.conf")
	check(t, os.WriteFile(file, []byte("requirepass secret\nbind * -::*\n"), 0o644))
	container, err := redis.Run(ctx, cache, redis.WithConfigFile(file))
	tc.CleanupContainer(t, container, tc.StopTimeout(0))
	check(t, err)
	address, err := container.PortEndpoint(ctx, "6379/tcp", "")
	check(t, err)
	equal(t, ask(t, address, "PING"), "-NOAUTH Authentication required.\r\n")
	equal(t, ask(t, address, "AUTH secret"), "+OK\r\n")
}

func TestDatabaseKeepsRows(t *testing.T) {
	begin(t)
	file := filepath.Join(t.TempDir(), "own.cnf")
	check(t, os.WriteFile(file, []byte("[mariadbd]\nmax_connections = 77\n"), 0o644))
	container, err := mariadb.Run(ctx, database,
		mariadb.WithDatabase("shop"),
		mariadb.WithUsername("clerk"),
		mariadb.WithPassword("secret"),
		mariadb.WithConfigFile(file),
		tc.WithTmpfs(map[string]string{"/var/lib/mysql": "rw"}),
		// The build's name in the line the module waits for is that of upstream's packages.
		tc.WithWaitStrategy(wait.ForLog("ready for connections").WithOccurrence(2), wait.ForListeningPort("3306/tcp")),
	)
	tc.CleanupContainer(t, container, tc.StopTimeout(0))
	check(t, err)
	address, err := container.ConnectionString(ctx)
	check(t, err)
	db, err := sql.Open("mysql", address)
	check(t, err)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE goods (id INT PRIMARY KEY, name TEXT)")
	check(t, err)
	_, err = db.Exec("INSERT INTO goods VALUES (1, 'ferry'), (2, 'boat')")
	check(t, err)
	var name string
	check(t, db.QueryRow("SELECT name FROM goods WHERE id = 2").Scan(&name))
	equal(t, name, "boat")
	var limit int
	check(t, db.QueryRow("SELECT @@max_connections").Scan(&limit))
	equal(t, limit, 77)
}
