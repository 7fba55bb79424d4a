//! `run` and its flags.

use std::time::Duration;

use anyhow::Result;

use super::{cases, check, equal};
use crate::harness::pty::Pty;
use crate::harness::{Case, Ctx, eventually, process};

pub fn cases() -> Vec<Case> {
    cases!(
        "run",
        EachClient,
        [
            hello_world,
            streams_stay_apart,
            exit_codes,
            exit_code_of_a_missing_program,
            exit_code_of_what_is_not_a_program,
            detached_prints_the_id,
            stdin_is_passed_on,
            a_terminal_joins_the_streams,
            interactive_in_a_terminal,
            terminal_size_is_known_at_start,
            name,
            environment,
            working_directory,
            user,
            bind_mounts,
            named_volumes,
            tmpfs,
            read_only,
            entrypoint,
            hostname,
            memory,
            memory_limit_kills,
            cpus,
            pids_limit,
            network_none,
            network_host,
            network_bridge,
            restart_on_failure_counts,
            rm_removes,
            ten_thousand_variables,
            fifty_in_parallel,
            a_gigabyte_of_output,
        ]
    )
}

fn hello_world(t: &Ctx) -> Result<()> {
    t.client.run(&["run", "--rm", "hello-world"])?.code(0)?.stdout_has("Hello from ferry!")?;
    Ok(())
}

fn streams_stay_apart(t: &Ctx) -> Result<()> {
    let output = t.client.run(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"])?;
    output.code(0)?.stdout("out")?;
    equal!(output.stderr, "err\n");
    Ok(())
}

fn exit_codes(t: &Ctx) -> Result<()> {
    for code in [0, 1, 3, 42, 255] {
        t.client.run(&["run", "--rm", "busybox", "sh", "-c", &format!("exit {code}")])?.code(code)?;
    }
    // A child of init ended by a signal, as a shell reports it.
    t.client.run(&["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -TERM $$'; exit $?"])?.code(143)?;
    t.client.run(&["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -SEGV $$'; exit $?"])?.code(139)?;
    t.client.run(&["run", "--rm", "--no-such-flag", "busybox"])?.code(125)?;
    Ok(())
}

fn exit_code_of_a_missing_program(t: &Ctx) -> Result<()> {
    let output = t.client.run(&["run", "--rm", "busybox", "no-such-program"])?;
    output
        .code(127)?
        .stdout("")?
        .stderr_has("no-such-program")?
        .stderr_has("executable file not found in $PATH")?;
    t.client
        .run(&["run", "--rm", "busybox", "/no/such/program"])?
        .code(127)?
        .stderr_has("no such file or directory")?;
    Ok(())
}

fn exit_code_of_what_is_not_a_program(t: &Ctx) -> Result<()> {
    t.client.run(&["run", "--rm", "busybox", "/etc/passwd"])?.code(126)?.stderr_has("permission denied")?;
    t.client.run(&["run", "--rm", "busybox", "/etc"])?.code(126)?;
    Ok(())
}

fn detached_prints_the_id(t: &Ctx) -> Result<()> {
    let id = t.ok(&["run", "-d", "busybox", "sleep", "1000"])?;
    t.remove_later(&id);
    check!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "not an id: {id:?}");
    equal!(t.inspect(&id, "{{.State.Status}} {{.State.Running}}")?, "running true");
    Ok(())
}

fn stdin_is_passed_on(t: &Ctx) -> Result<()> {
    let text = "line\n".repeat(50_000);
    let output = t.client.run_with(&["run", "--rm", "-i", "busybox", "cat"], text.clone())?;
    output.code(0)?;
    check!(output.stdout == text, "{} bytes came back of {}", output.stdout.len(), text.len());
    // Without -i there is nothing to read.
    t.client.run_with(&["run", "--rm", "busybox", "cat"], "text")?.code(0)?.stdout("")?;
    Ok(())
}

fn a_terminal_joins_the_streams(t: &Ctx) -> Result<()> {
    let output =
        t.client.run(&["run", "--rm", "-t", "busybox", "sh", "-c", "echo out; echo err >&2; tty"])?;
    output.code(0)?;
    equal!(output.stdout, "out\r\nerr\r\n/dev/pts/0\r\n");
    Ok(())
}

fn interactive_in_a_terminal(t: &Ctx) -> Result<()> {
    let mut pty = Pty::start(&t.client.command(&["run", "-it", "--rm", "busybox", "sh"]), 30, 100)?;
    pty.expect("#")?;
    pty.send("echo $((6*7))\n")?;
    pty.expect("42")?;
    pty.send("stty size\n")?;
    pty.expect("30 100")?;
    pty.resize(41, 111)?;
    // The client learns of it by a signal and tells the engine.
    std::thread::sleep(Duration::from_millis(300));
    pty.send("stty size\n")?;
    pty.expect("41 111")?;
    // An interrupt goes to the program in the container and not to the client.
    pty.send("sleep 100\n")?;
    pty.expect("sleep 100")?;
    std::thread::sleep(Duration::from_millis(200));
    pty.send("\x03")?;
    pty.expect("#")?;
    pty.send("exit 7\n")?;
    equal!(pty.wait()?, 7);
    Ok(())
}

fn terminal_size_is_known_at_start(t: &Ctx) -> Result<()> {
    let command = t.client.command(&["run", "-it", "--rm", "busybox", "sh", "-c", "sleep 0.3; stty size"]);
    let mut pty = Pty::start(&command, 33, 77)?;
    pty.expect("33 77")?;
    equal!(pty.wait()?, 0);
    Ok(())
}

fn name(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    let id = t.ok(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"])?;
    equal!(t.inspect(&name, "{{.Id}} {{.Name}}")?, format!("{id} /{name}"));
    let again = t.client.run(&["run", "--name", &name, "busybox", "true"])?;
    again.code(125)?.stderr_has(&format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\""
    ))?;
    Ok(())
}

fn environment(t: &Ctx) -> Result<()> {
    let mut command = t.client.command(&[
        "run",
        "--rm",
        "-e",
        "A=1",
        "-e",
        "B=two words",
        "-e",
        "FROM_HOST",
        "-e",
        "NOT_ON_HOST",
        "-e",
        "EMPTY=",
        "--hostname",
        "h",
        "busybox",
        "env",
    ]);
    command.env("FROM_HOST", "yes").env_remove("NOT_ON_HOST");
    let output = process::run(command)?;
    output.code(0)?;
    let lines: Vec<&str> = output.stdout.lines().collect();
    for line in ["A=1", "B=two words", "FROM_HOST=yes", "EMPTY=", "HOSTNAME=h", "HOME=/root"] {
        check!(lines.contains(&line), "{line} is missing\n{output}");
    }
    check!(lines.iter().any(|line| line.starts_with("PATH=/usr/local/sbin:")), "no PATH\n{output}");
    check!(!output.stdout.contains("NOT_ON_HOST"), "a variable the host does not have\n{output}");
    Ok(())
}

fn working_directory(t: &Ctx) -> Result<()> {
    equal!(t.ok(&["run", "--rm", "-w", "/tmp", "busybox", "pwd"])?, "/tmp");
    equal!(t.ok(&["run", "--rm", "-w", "/made/for/me", "busybox", "pwd"])?, "/made/for/me");
    t.client.run(&["run", "--rm", "-w", "relative", "busybox", "pwd"])?.code(125)?.stderr_has("invalid")?;
    Ok(())
}

fn user(t: &Ctx) -> Result<()> {
    equal!(t.ok(&["run", "--rm", "busybox", "id", "-u"])?, "0");
    equal!(
        t.ok(&["run", "--rm", "-u", "www-data", "busybox", "id"])?,
        "uid=33(www-data) gid=33(www-data) groups=4(adm),29(audio),33(www-data)"
    );
    equal!(t.ok(&["run", "--rm", "-u", "1234:5678", "busybox", "sh", "-c", "id -u; id -g"])?, "1234\n5678");
    equal!(
        t.ok(&[
            "run",
            "--rm",
            "-u",
            "daemon",
            "busybox",
            "sh",
            "-c",
            "echo $HOME; grep CapEff /proc/self/status"
        ])?,
        "/usr/sbin\nCapEff:\t0000000000000000"
    );
    let output = t.client.run(&["run", "--rm", "-u", "nobody-here", "busybox", "id"])?;
    output.code(125)?.stderr_has("unable to find user nobody-here: no matching entries in passwd file")?;
    Ok(())
}

fn bind_mounts(t: &Ctx) -> Result<()> {
    let dir = t.path("bind");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("given"), "from the host\n")?;
    let volume = format!("{}:/data", dir.display());
    let script = "cat /data/given && echo back > /data/made";
    t.client
        .run(&["run", "--rm", "-v", &volume, "busybox", "sh", "-c", script])?
        .code(0)?
        .stdout("from the host")?;
    equal!(std::fs::read_to_string(dir.join("made"))?, "back\n");
    let output =
        t.client.run(&["run", "--rm", "-v", &format!("{volume}:ro"), "busybox", "touch", "/data/x"])?;
    output.code(1)?.stderr_has("Read-only file system")?;
    // A source that is missing is made, as a directory.
    let missing = dir.join("not/there");
    t.ok(&["run", "--rm", "-v", &format!("{}:/data", missing.display()), "busybox", "touch", "/data/x"])?;
    check!(missing.join("x").exists(), "the source was not made");
    // A file onto a file.
    let file = format!("{}:/etc/motd", dir.join("given").display());
    equal!(t.ok(&["run", "--rm", "-v", &file, "busybox", "cat", "/etc/motd"])?, "from the host");
    Ok(())
}

fn named_volumes(t: &Ctx) -> Result<()> {
    let volume = t.name("vol");
    let mount = format!("{volume}:/data");
    t.ok(&["run", "--rm", "-v", &mount, "busybox", "sh", "-c", "echo kept > /data/f"])?;
    equal!(t.ok(&["run", "--rm", "-v", &mount, "busybox", "cat", "/data/f"])?, "kept");
    // A new volume gets what the image has there.
    let other = format!("{}:/etc", t.name("etc"));
    t.client
        .run(&["run", "--rm", "-v", &other, "busybox", "cat", "/etc/passwd"])?
        .code(0)?
        .stdout_has("root:x:0:0")?;
    Ok(())
}

fn tmpfs(t: &Ctx) -> Result<()> {
    let script = "touch /scratch/x && grep ' /scratch ' /proc/mounts";
    let output =
        t.client.run(&["run", "--rm", "--tmpfs", "/scratch:size=1m", "busybox", "sh", "-c", script])?;
    output.code(0)?.stdout_has("tmpfs /scratch tmpfs rw,nosuid,nodev,noexec")?.stdout_has("size=1024k")?;
    Ok(())
}

fn read_only(t: &Ctx) -> Result<()> {
    t.client
        .run(&["run", "--rm", "--read-only", "busybox", "touch", "/x"])?
        .code(1)?
        .stderr_has("Read-only file system")?;
    t.ok(&["run", "--rm", "--read-only", "--tmpfs", "/tmp", "busybox", "touch", "/tmp/x"])?;
    t.ok(&["run", "--rm", "--read-only", "busybox", "touch", "/dev/shm/x"])?;
    Ok(())
}

fn entrypoint(t: &Ctx) -> Result<()> {
    equal!(t.ok(&["run", "--rm", "--entrypoint", "echo", "busybox", "a", "b"])?, "a b");
    // The image's command is not the new entrypoint's.
    equal!(t.ok(&["run", "--rm", "--entrypoint", "echo", "busybox"])?, "");
    Ok(())
}

fn hostname(t: &Ctx) -> Result<()> {
    let script = "hostname; cat /etc/hostname; grep -c box /etc/hosts";
    equal!(t.ok(&["run", "--rm", "--hostname", "box", "busybox", "sh", "-c", script])?, "box\nbox\n1");
    let name = t.name("x");
    let id = t.ok(&["run", "-d", "--name", &name, "busybox", "hostname"])?;
    eventually(
        "it ends",
        Duration::from_secs(10),
        || Ok(t.inspect(&name, "{{.State.Running}}")? == "false"),
    )?;
    equal!(t.ok(&["logs", &name])?, id[..12]);
    Ok(())
}

/// Prints a limit from where either version of control groups has it.
const LIMIT: &str = "cat /sys/fs/cgroup/$1 2>/dev/null || cat /sys/fs/cgroup/$2";

fn memory(t: &Ctx) -> Result<()> {
    let args = ["run", "--rm", "--memory", "64m", "busybox", "sh", "-c", LIMIT, "sh"];
    let limit = t.ok(&[args.as_slice(), &["memory.max", "memory/memory.limit_in_bytes"]].concat())?;
    equal!(limit, "67108864");
    let output = t.client.run(&["run", "--rm", "--memory", "1k", "busybox", "true"])?;
    output.code(125)?.stderr_has("Minimum memory limit allowed is 6MB")?;
    Ok(())
}

fn memory_limit_kills(t: &Ctx) -> Result<()> {
    let name = t.name("hog");
    // dd's buffer is larger than what it may have.
    let hog = ["dd", "if=/dev/zero", "of=/dev/null", "bs=512M", "count=1"];
    let args = ["run", "--name", &name, "--memory", "32m", "--memory-swap", "32m", "busybox"];
    t.client.run(&[args.as_slice(), &hog].concat())?.code(137)?;
    equal!(t.inspect(&name, "{{.State.OOMKilled}} {{.State.ExitCode}}")?, "true 137");
    Ok(())
}

fn cpus(t: &Ctx) -> Result<()> {
    let args = ["run", "--rm", "--cpus", "0.5", "busybox", "sh", "-c", LIMIT, "sh"];
    let limit = t.ok(&[args.as_slice(), &["cpu.max", "cpu/cpu.cfs_quota_us"]].concat())?;
    check!(limit == "50000" || limit == "50000 100000", "limit is {limit:?}");
    t.client
        .run(&["run", "--rm", "--cpus", "1000", "busybox", "true"])?
        .code(125)?
        .stderr_has("range of CPUs is from 0.01 to")?;
    Ok(())
}

fn pids_limit(t: &Ctx) -> Result<()> {
    let args = ["run", "--rm", "--pids-limit", "7", "busybox", "sh", "-c"];
    let limit = t.ok(&[args.as_slice(), &[LIMIT, "sh", "pids.max", "pids/pids.max"]].concat())?;
    equal!(limit, "7");
    let many = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait";
    t.client.run(&[args.as_slice(), &[many]].concat())?.stderr_has("can't fork")?;
    Ok(())
}

fn network_none(t: &Ctx) -> Result<()> {
    equal!(t.ok(&["run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"])?, "lo");
    Ok(())
}

fn network_host(t: &Ctx) -> Result<()> {
    let own = std::fs::read_link("/proc/self/ns/net")?.display().to_string();
    equal!(t.ok(&["run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"])?, own);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    equal!(t.ok(&["run", "--rm", "--network", "host", "busybox", "hostname"])?, host.trim());
    Ok(())
}

fn network_bridge(t: &Ctx) -> Result<()> {
    let (one, two) = (t.name("one"), t.name("two"));
    t.ok(&["run", "-d", "--name", &one, "busybox", "sleep", "1000"])?;
    t.ok(&["run", "-d", "--name", &two, "busybox", "sleep", "1000"])?;
    let address = t.inspect(&one, "{{.NetworkSettings.IPAddress}}")?;
    let gateway = t.inspect(&one, "{{.NetworkSettings.Gateway}}")?;
    equal!(t.inspect(&one, "{{.NetworkSettings.Networks.bridge.IPAddress}}")?, address);
    check!(address.split('.').count() == 4, "address is {address:?}");
    // The container has it, the other container reaches it, and so does the host.
    let shown = t.ok(&["exec", &one, "ip", "-4", "address", "show", "eth0"])?;
    check!(shown.contains(&format!("inet {address}/")), "{shown}");
    t.ok(&["exec", &two, "ping", "-c", "1", "-W", "2", &address])?;
    t.ok(&["exec", &one, "ping", "-c", "1", "-W", "2", &gateway])?;
    let route = t.ok(&["exec", &one, "ip", "route"])?;
    check!(route.contains(&format!("default via {gateway} dev eth0")), "{route}");
    // The hardware address follows from the address, so that nobody's neighbour tables go stale.
    let mac = t.inspect(&one, "{{.NetworkSettings.Networks.bridge.MacAddress}}")?;
    check!(mac.len() == 17, "hardware address is {mac:?}");
    t.client.run(&["exec", &one, "cat", "/sys/class/net/eth0/address"])?.code(0)?.stdout(&mac)?;
    let hosts = t.ok(&["exec", &one, "cat", "/etc/hosts"])?;
    check!(hosts.contains(&address) && hosts.contains("127.0.0.1\tlocalhost"), "{hosts}");
    Ok(())
}

fn restart_on_failure_counts(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&[
        "run",
        "-d",
        "--name",
        &name,
        "--restart",
        "on-failure:2",
        "busybox",
        "sh",
        "-c",
        "echo try; exit 3",
    ])?;
    eventually("it gives up", Duration::from_secs(20), || {
        Ok(t.inspect(&name, "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}")? == "2 exited 3")
    })?;
    equal!(t.ok(&["logs", &name])?, "try\ntry\ntry");
    Ok(())
}

fn rm_removes(t: &Ctx) -> Result<()> {
    let name = t.name("x");
    t.ok(&["run", "--rm", "--name", &name, "busybox", "true"])?;
    // When the command has ended, the name is free again.
    t.ok(&["run", "--rm", "--name", &name, "busybox", "true"])?;
    t.client.run(&["inspect", &name])?.code(1)?;
    Ok(())
}

fn ten_thousand_variables(t: &Ctx) -> Result<()> {
    let mut args = vec!["run".to_owned(), "--rm".to_owned()];
    for i in 0..10_000 {
        args.extend(["-e".to_owned(), format!("VARIABLE_NUMBER_{i}=value of number {i}")]);
    }
    args.extend(["busybox", "sh", "-c", "env | grep -c ^VARIABLE_NUMBER_"].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    equal!(t.ok(&args)?, "10000");
    Ok(())
}

fn fifty_in_parallel(t: &Ctx) -> Result<()> {
    let running: Vec<_> = (0..50)
        .map(|i| t.client.start(&["run", "--rm", "busybox", "sh", "-c", &format!("echo {i}; exit {i}")]))
        .collect::<Result<_>>()?;
    for (i, one) in running.into_iter().enumerate() {
        one.finish(Duration::from_secs(120))?.code(i as i32)?.stdout(&i.to_string())?;
    }
    Ok(())
}

fn a_gigabyte_of_output(t: &Ctx) -> Result<()> {
    use std::io::Read;
    const LINE: usize = 1024;
    const LINES: usize = 1 << 20;
    let name = t.name("flood");
    let script = format!("yes {} | head -n {LINES}", "x".repeat(LINE - 1));
    let mut command = t.client.command(&["run", "--name", &name, "busybox", "sh", "-c", &script]);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn()?;
    let mut count = 0;
    if let Some(mut stdout) = child.stdout.take() {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match stdout.read(&mut buffer)? {
                0 => break,
                length => count += length,
            }
        }
    }
    let status = process::wait(&mut child, Duration::from_secs(60))?;
    equal!(process::code(status), 0);
    equal!(count, LINE * LINES);
    // The last of it is in the log, too.
    let last = t.ok(&["logs", "--tail", "1", &name])?;
    equal!(last.len(), LINE - 1);
    Ok(())
}
