//! Output and input of processes: exec, attach and logs.

use anyhow::{Context as _, Result};
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, LogsOptionsBuilder, ResizeExecOptionsBuilder,
};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{Ctx, Output, cases, eventually};

cases!("streams":
    exec_streams_apart,
    exec_input,
    exec_much_output,
    exec_terminal,
    exec_user_directory_environment,
    exec_detached,
    attach_from_the_start,
    attach_input,
    attach_terminal,
    attach_with_logs,
    logs_streams_apart,
    logs_tail,
    logs_since_and_until,
    logs_timestamps,
    logs_follow,
    logs_long_lines,
);

fn shell(script: &str) -> CreateExecOptions<String> {
    CreateExecOptions {
        cmd: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    }
}

/// Runs an exec to its end: what it wrote and its exit status.
async fn exec(t: &Ctx, id: &str, options: CreateExecOptions<String>) -> Result<(Output, Option<i64>)> {
    let exec = t.docker.create_exec(id, options).await?.id;
    let StartExecResults::Attached { output, .. } = t.docker.start_exec(&exec, None).await? else {
        anyhow::bail!("the exec is detached");
    };
    let output = Output::of(output).await?;
    Ok((output, t.docker.inspect_exec(&exec).await?.exit_code))
}

async fn sleeper(t: &Ctx) -> Result<String> {
    t.start("exec sleep 300", json!({})).await
}

async fn exec_streams_apart(t: &Ctx) -> Result<()> {
    let id = sleeper(t).await?;
    let (output, status) = exec(t, &id, shell("echo out; echo err >&2; exit 3")).await?;
    assert_eq!((&*output.out, &*output.err, status), ("out\n", "err\n", Some(3)));
    let options = CreateExecOptions { attach_stderr: Some(false), ..shell("echo out; echo err >&2") };
    let (output, _) = exec(t, &id, options).await?;
    assert_eq!((&*output.out, &*output.err), ("out\n", ""));
    Ok(())
}

async fn exec_input(t: &Ctx) -> Result<()> {
    let id = sleeper(t).await?;
    let script = "while read line; do echo \"<$line>\"; done; echo end";
    let options = CreateExecOptions { attach_stdin: Some(true), ..shell(script) };
    let exec = t.docker.create_exec(&id, options).await?.id;
    let StartExecResults::Attached { mut output, mut input } = t.docker.start_exec(&exec, None).await? else {
        anyhow::bail!("the exec is detached");
    };
    let mut seen = Output::default();
    for word in ["one", "two"] {
        input.write_all(format!("{word}\n").as_bytes()).await?;
        while !seen.out.ends_with(&format!("<{word}>\n")) {
            seen.add(output.next().await.context("the stream ended early")??);
        }
    }
    input.shutdown().await?;
    while let Some(part) = output.next().await {
        seen.add(part?);
    }
    assert_eq!(seen.out, "<one>\n<two>\nend\n");
    Ok(())
}

async fn exec_much_output(t: &Ctx) -> Result<()> {
    let id = sleeper(t).await?;
    let (output, _) = exec(t, &id, shell("seq 1 200000")).await?;
    assert_eq!(output.out.len(), 1_288_895);
    assert!(output.out.ends_with("199999\n200000\n"));
    Ok(())
}

async fn exec_terminal(t: &Ctx) -> Result<()> {
    let id = sleeper(t).await?;
    let script = "tty; read go; stty size; echo err >&2";
    let options = CreateExecOptions { tty: Some(true), attach_stdin: Some(true), ..shell(script) };
    let exec = t.docker.create_exec(&id, options).await?.id;
    let start = StartExecOptions { tty: true, ..StartExecOptions::default() };
    let StartExecResults::Attached { output, mut input } = t.docker.start_exec(&exec, Some(start)).await?
    else {
        anyhow::bail!("the exec is detached");
    };
    t.docker.resize_exec(&exec, ResizeExecOptionsBuilder::new().h(33).w(111).build()).await?;
    input.write_all(b"\n").await?;
    let output = Output::of(output).await?;
    let all = format!("{}{}", output.console, output.out);
    // The echo of the input comes when it likes.
    assert!(all.contains("/dev/pts/") && all.ends_with("33 111\r\nerr\r\n"), "{all:?}");
    assert_eq!(output.err, "");
    Ok(())
}

async fn exec_user_directory_environment(t: &Ctx) -> Result<()> {
    let id = sleeper(t).await?;
    let options = CreateExecOptions {
        user: Some("www-data".to_owned()),
        working_dir: Some("/tmp".to_owned()),
        env: Some(vec!["E=given".to_owned()]),
        ..shell("id -u; pwd; echo $E")
    };
    assert_eq!(exec(t, &id, options).await?.0.out, "33\n/tmp\ngiven\n");
    Ok(())
}

async fn exec_detached(t: &Ctx) -> Result<()> {
    let id = sleeper(t).await?;
    let options =
        CreateExecOptions { attach_stdout: None, attach_stderr: None, ..shell("sleep 0.3; exit 9") };
    let exec = t.docker.create_exec(&id, options).await?.id;
    let start = StartExecOptions { detach: true, ..StartExecOptions::default() };
    assert!(matches!(t.docker.start_exec(&exec, Some(start)).await?, StartExecResults::Detached));
    assert_eq!(t.inspect(&id).await?.exec_ids, Some(vec![exec.clone()]));
    eventually("the process ends", || async {
        Ok(t.docker.inspect_exec(&exec).await?.running == Some(false))
    })
    .await?;
    assert_eq!(t.docker.inspect_exec(&exec).await?.exit_code, Some(9));
    Ok(())
}

async fn attach_from_the_start(t: &Ctx) -> Result<()> {
    let id = t.create("echo out; echo err >&2; sleep 0.3; echo more", json!({})).await?;
    let options = AttachContainerOptionsBuilder::new().stdout(true).stderr(true).stream(true).build();
    let attached = t.docker.attach_container(&id, Some(options)).await?;
    t.docker.start_container(&id, None).await?;
    let output = Output::of(attached.output).await?;
    assert_eq!((&*output.out, &*output.err), ("out\nmore\n", "err\n"));
    Ok(())
}

async fn attach_input(t: &Ctx) -> Result<()> {
    let id = t.create("cat; echo end", json!({"OpenStdin": true, "StdinOnce": true})).await?;
    let options = AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stream(true).build();
    let mut attached = t.docker.attach_container(&id, Some(options)).await?;
    t.docker.start_container(&id, None).await?;
    attached.input.write_all(b"given\n").await?;
    attached.input.shutdown().await?;
    assert_eq!(Output::of(attached.output).await?.out, "given\nend\n");
    assert_eq!(t.wait(&id).await?, 0);
    Ok(())
}

async fn attach_terminal(t: &Ctx) -> Result<()> {
    let id = t.create("read a; echo \"<$a>\"; tty", json!({"Tty": true, "OpenStdin": true})).await?;
    let options =
        AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stderr(true).stream(true).build();
    let mut attached = t.docker.attach_container(&id, Some(options)).await?;
    t.docker.start_container(&id, None).await?;
    attached.input.write_all(b"typed\n").await?;
    let output = Output::of(attached.output).await?;
    let all = format!("{}{}", output.console, output.out);
    assert!(all.starts_with("typed\r\n<typed>\r\n/dev/"), "{all:?}");
    Ok(())
}

async fn attach_with_logs(t: &Ctx) -> Result<()> {
    let id = t.start("echo before; read a; echo after", json!({"OpenStdin": true})).await?;
    eventually("the first line is logged", || async { Ok(t.logs(&id).await?.out == "before\n") }).await?;
    let options =
        AttachContainerOptionsBuilder::new().stdin(true).stdout(true).logs(true).stream(true).build();
    let mut attached = t.docker.attach_container(&id, Some(options)).await?;
    attached.input.write_all(b"\n").await?;
    assert_eq!(Output::of(attached.output).await?.out, "before\nafter\n");
    Ok(())
}

fn all_logs() -> LogsOptionsBuilder {
    LogsOptionsBuilder::new().stdout(true).stderr(true)
}

async fn logs(t: &Ctx, id: &str, options: LogsOptionsBuilder) -> Result<Output> {
    Ok(Output::of(t.docker.logs(id, Some(options.build()))).await?)
}

async fn logs_streams_apart(t: &Ctx) -> Result<()> {
    let id = t.run("echo out; echo err >&2", json!({})).await?;
    let both = t.logs(&id).await?;
    assert_eq!((&*both.out, &*both.err), ("out\n", "err\n"));
    let one = logs(t, &id, LogsOptionsBuilder::new().stderr(true)).await?;
    assert_eq!((&*one.out, &*one.err), ("", "err\n"));
    Ok(())
}

async fn logs_tail(t: &Ctx) -> Result<()> {
    let id = t.run("seq 1 100", json!({})).await?;
    assert_eq!(logs(t, &id, all_logs().tail("2")).await?.out, "99\n100\n");
    assert_eq!(logs(t, &id, all_logs().tail("0")).await?.out, "");
    assert_eq!(logs(t, &id, all_logs().tail("all")).await?.out.len(), 292);
    Ok(())
}

async fn logs_since_and_until(t: &Ctx) -> Result<()> {
    // The clock's second changes between the two lines.
    let id = t.run("echo old; sleep 2.2; date +%s >&2; echo new", json!({})).await?;
    let second: i32 = t.logs(&id).await?.err.trim().parse()?;
    let only_out = || LogsOptionsBuilder::new().stdout(true);
    assert_eq!(logs(t, &id, only_out().since(second)).await?.out, "new\n");
    assert_eq!(logs(t, &id, only_out().until(second)).await?.out, "old\n");
    Ok(())
}

async fn logs_timestamps(t: &Ctx) -> Result<()> {
    let id = t.run("echo one; echo two", json!({})).await?;
    let output = logs(t, &id, all_logs().timestamps(true)).await?;
    let lines: Vec<(&str, &str)> = output.out.lines().filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(lines.iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["one", "two"]);
    for (stamp, _) in lines {
        assert!(stamp.len() == "2006-01-02T15:04:05.000000000Z".len() && stamp.ends_with('Z'), "{stamp}");
    }
    Ok(())
}

async fn logs_follow(t: &Ctx) -> Result<()> {
    let id = t.start("echo one; sleep 0.5; echo two; sleep 0.5; echo three", json!({})).await?;
    let mut stream = Box::pin(t.docker.logs(&id, Some(all_logs().follow(true).build())));
    let mut seen = Output::default();
    seen.add(stream.next().await.context("nothing came")??);
    assert_eq!(t.inspect(&id).await?.state.and_then(|s| s.running), Some(true));
    while let Some(part) = stream.next().await {
        seen.add(part?);
    }
    assert_eq!(seen.out, "one\ntwo\nthree\n");
    Ok(())
}

async fn logs_long_lines(t: &Ctx) -> Result<()> {
    let id = t.run("head -c 100000 /dev/zero | tr '\\0' x; echo; echo end", json!({})).await?;
    assert_eq!(t.logs(&id).await?.out, format!("{}\nend\n", "x".repeat(100_000)));
    Ok(())
}
