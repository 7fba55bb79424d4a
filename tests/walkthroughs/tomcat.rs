//! Tomcat: a Java program behind a published port, mended from inside.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use super::free_port;
use crate::cases::{cases, check, equal};
use crate::harness::pty::Pty;
use crate::harness::{Case, Ctx, eventually, http};

pub fn cases() -> Vec<Case> {
    cases!("walkthrough", EachClient, [tomcat])
}

fn tomcat(t: &Ctx) -> Result<()> {
    let image = t.tomcat()?;
    let (name, port) = (t.name("t1"), free_port()?);
    t.ok(&["run", "-d", "-p", &format!("{port}:8080"), "--name", &name, image])?;
    let row = t.ok(&["ps", "--filter", &format!("name={name}"), "--format", "{{.Command}} {{.Ports}}"])?;
    check!(
        row.starts_with("\"catalina.sh run\"") && row.contains(&format!("0.0.0.0:{port}->8080/tcp")),
        "{row}"
    );

    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    eventually("tomcat answers", Duration::from_secs(60), || {
        let answer = http::get(server, Duration::ZERO);
        Ok(answer.is_err_and(|error| format!("{error:#}").contains("status 404")))
    })?;
    // The applications lie aside, as in the official image.
    let mut pty = Pty::start(&t.client.command(&["exec", "-it", &name, "/bin/bash"]), 24, 100)?;
    pty.expect("/usr/local/tomcat#")?;
    pty.send("rm -r webapps && mv webapps.dist webapps; ls webapps\n")?;
    pty.expect("ROOT")?;
    pty.send("exit\n")?;
    equal!(pty.wait()?, 0);
    t.ok(&["restart", "-t", "2", &name])?;
    eventually("tomcat shows its page", Duration::from_secs(60), || {
        let answer = http::get(server, Duration::from_secs(5));
        Ok(answer.is_ok_and(|page| page.contains("It works")))
    })?;
    // The Java machine sees the container's limits, not the host's.
    let flags =
        ["run", "--rm", "-m", "256m", "--cpus", "1", image, "java", "-XX:+PrintFlagsFinal", "-version"];
    let output = t.client.run(&flags)?;
    output.code(0)?;
    let heap = output.stdout.lines().find(|line| line.contains(" MaxHeapSize "));
    let heap: u64 = heap.and_then(|line| line.split_whitespace().nth(3)?.parse().ok()).unwrap_or_default();
    check!(heap > 0 && heap <= 160 << 20, "the heap may grow to {heap} bytes\n{output}");
    t.ok(&["stop", &name])?;
    equal!(t.inspect(&name, "{{.State.ExitCode}}")?, "143");
    Ok(())
}
