//! MariaDB as the courses run MySQL: configuration and data by bind mount, and replication.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{directory, free_port};
use crate::cases::{cases, check, equal};
use crate::harness::pty::Pty;
use crate::harness::{Case, Ctx, eventually};

pub fn cases() -> Vec<Case> {
    cases!("walkthrough", EachClient, [database_survives_its_container, replication])
}

/// The start of a database server takes a while on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const UTF8: &str = "[client]\ndefault_character_set=utf8\n\
    [mysqld]\ncollation_server=utf8_general_ci\ncharacter_set_server=utf8\n";

/// One database server with its directories on the host.
struct Server<'a> {
    t: &'a Ctx,
    name: String,
    password: &'static str,
    run: Vec<String>,
}

impl<'a> Server<'a> {
    /// `docker run -p … --name … -v log -v data -v conf -e MYSQL_ROOT_PASSWORD=… -d mariadb`.
    fn start(t: &'a Ctx, name: &str, password: &'static str, my_cnf: Option<&str>) -> Result<Self> {
        let image = t.mariadb()?;
        let (_, log) = directory(t, &format!("{name}-log"), "/var/log/mysql")?;
        let (_, data) = directory(t, &format!("{name}-data"), "/var/lib/mysql")?;
        let (conf, conf_volume) = directory(t, &format!("{name}-conf"), "/etc/mysql/conf.d")?;
        if let Some(text) = my_cnf {
            std::fs::write(conf.join("my.cnf"), text)?;
        }
        let name = t.name(name);
        let port = format!("{}:3306", free_port()?);
        let secret = format!("MYSQL_ROOT_PASSWORD={password}");
        let run = ["run", "-p", &port, "--name", &name, "--privileged=true"]
            .into_iter()
            .chain(["-v", &log, "-v", &data, "-v", &conf_volume, "-e", &secret, "-d", image])
            .map(str::to_owned)
            .collect();
        let server = Self { t, name, password, run };
        server.run()?;
        Ok(server)
    }

    fn run(&self) -> Result<()> {
        let words: Vec<&str> = self.run.iter().map(String::as_str).collect();
        self.t.ok(&words)?;
        self.ready()
    }

    /// Waits until it takes connections: the temporary server of the first start takes none.
    fn ready(&self) -> Result<()> {
        let tcp = ["exec", &self.name, "mysqladmin", "-h127.0.0.1", "-uroot"];
        let password = format!("-p{}", self.password);
        eventually("the database answers", PATIENCE, || {
            Ok(self.t.client.run(&[tcp.as_slice(), &[&password, "ping"]].concat())?.code == 0)
        })
        .with_context(|| {
            self.t
                .client
                .run(&["logs", "--tail", "5", &self.name])
                .map_or_else(|e| e.to_string(), |o| o.stderr)
        })
    }

    fn sql(&self, statement: &str) -> Result<String> {
        let password = format!("-p{}", self.password);
        self.t.ok(&["exec", &self.name, "mysql", "-uroot", &password, "-N", "-B", "-e", statement])
    }
}

fn database_survives_its_container(t: &Ctx) -> Result<()> {
    let server = Server::start(t, "some-mysql", "docker123456", Some(UTF8))?;
    let sets = server.sql("show variables like 'character_set_server'")?;
    check!(sets.contains("utf8"), "the configuration is not read: {sets}");

    // In a terminal, as people do.
    let mut pty = Pty::start(&t.client.command(&["exec", "-it", &server.name, "/bin/bash"]), 30, 120)?;
    pty.expect("#")?;
    pty.send("mysql -uroot -p\n")?;
    pty.expect("Enter password:")?;
    pty.send("docker123456\n")?;
    pty.expect("MariaDB [(none)]>")?;
    pty.send("create database db01; use db01; create table t1(id int, name varchar(20));\n")?;
    pty.expect("MariaDB [db01]>")?;
    pty.send("insert into t1 values(1,'z3'),(2,'张三');\n")?;
    pty.expect("Query OK, 2 rows affected")?;
    pty.send("exit\n")?;
    pty.expect("Bye")?;
    pty.send("exit\n")?;
    equal!(pty.wait()?, 0);

    equal!(server.sql("select * from db01.t1")?, "1\tz3\n2\t张三");
    t.ok(&["rm", "-f", &server.name])?;
    server.run()?;
    equal!(server.sql("select * from db01.t1 order by id")?, "1\tz3\n2\t张三");
    // It is asked to stop and does so in order.
    t.ok(&["stop", &server.name])?;
    equal!(t.inspect(&server.name, "{{.State.ExitCode}}")?, "0");
    Ok(())
}

fn source_cnf(id: u32, more: &str) -> String {
    format!(
        "[mysqld]\nserver_id={id}\nbinlog-ignore-db=mysql\nlog-bin=mall-mysql-bin\nbinlog_cache_size=1M\n\
         binlog_format=mixed\nexpire_logs_days=7\nslave_skip_errors=1062\n{more}"
    )
}

fn replication(t: &Ctx) -> Result<()> {
    let source = Server::start(t, "mysql-master", "root", None)?;
    std::fs::write(t.path("mysql-master-conf").join("my.cnf"), source_cnf(101, ""))?;
    t.ok(&["restart", &source.name])?;
    source.ready()?;
    source.sql("CREATE USER 'slave'@'%' IDENTIFIED BY '123456'")?;
    source.sql("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'slave'@'%'")?;

    let more = "relay_log=mall-mysql-relay-bin\nlog_slave_updates=1\nread_only=1\n";
    let replica = Server::start(t, "mysql-slave", "root", Some(&source_cnf(102, more)))?;
    let status = source.sql("show master status")?;
    let mut fields = status.split('\t');
    let (file, position) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    // On the default bridge containers know each other by address only.
    let address = t.inspect(&source.name, "{{.NetworkSettings.IPAddress}}")?;
    replica.sql(&format!(
        "change master to master_host='{address}', master_user='slave', master_password='123456', \
         master_port=3306, master_log_file='{file}', master_log_pos={position}, master_connect_retry=30"
    ))?;
    replica.sql("start slave")?;
    let mut status = String::new();
    eventually("both threads of the replica run", PATIENCE, || {
        let show = ["exec", &replica.name, "mysql", "-uroot", "-proot", "-e", "show slave status\\G"];
        status = t.ok(&show)?;
        Ok(status.contains("Slave_IO_Running: Yes") && status.contains("Slave_SQL_Running: Yes"))
    })
    .with_context(|| status.clone())?;

    source.sql("create database db01; create table db01.t1(id int, name varchar(20)); insert into db01.t1 values(1,'z3')")?;
    let arrives = |row: &str| {
        eventually("the row arrives", PATIENCE, || {
            let output = t.client.run(&[
                "exec",
                &replica.name,
                "mysql",
                "-uroot",
                "-proot",
                "-N",
                "-e",
                "select name from db01.t1",
            ])?;
            Ok(output.stdout.contains(row))
        })
    };
    arrives("z3")?;
    // It picks up where it was after a restart of either.
    t.ok(&["restart", &replica.name])?;
    replica.ready()?;
    source.sql("insert into db01.t1 values(2,'li4')")?;
    arrives("li4")
}
