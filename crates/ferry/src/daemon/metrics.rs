//! `--metrics-addr`: figures in Prometheus' text format, under the names Docker's daemon uses where it has them.

use std::fmt::Write as _;
use std::time::Duration;

use ferry_engine::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers until the daemon ends.
pub async fn serve(engine: Engine, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(engine.clone(), stream));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn answer(engine: Engine, mut stream: TcpStream) {
    let mut head = Vec::new();
    let read = async {
        let mut buffer = [0; 1024];
        while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < 16 * 1024 {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => head.extend_from_slice(&buffer[..n]),
            }
        }
    };
    if tokio::time::timeout(PATIENCE, read).await.is_err() {
        return;
    }
    let path = head.split(|b| *b == b' ').nth(1).unwrap_or_default();
    let (status, body) = match path.split(|b| *b == b'?').next() {
        Some(b"/metrics") => ("200 OK", text(&engine)),
        _ => ("404 Not Found", "404 page not found\n".to_owned()),
    };
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // Whoever asked may have left.
    let _ = stream.write_all(response.as_bytes()).await;
}

fn text(engine: &Engine) -> String {
    let info = engine.info();
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, kind: &str, lines: &[(String, i64)]| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let state = |state: &str, n: i64| (format!("{{state=\"{state}\"}}"), n);
    gauge(
        "engine_daemon_container_states_containers",
        "The count of containers in various states",
        "gauge",
        &[
            state("paused", info.containers_paused),
            state("running", info.containers_running),
            state("stopped", info.containers_stopped),
        ],
    );
    gauge("engine_daemon_engine_cpus_cpus", "Processors of the host", "gauge", &[(String::new(), info.ncpu)]);
    gauge(
        "engine_daemon_engine_memory_bytes",
        "Memory of the host",
        "gauge",
        &[(String::new(), info.mem_total)],
    );
    gauge(
        "engine_daemon_engine_info",
        "What this engine is",
        "gauge",
        &[(
            format!(
                "{{architecture=\"{}\",daemon_id=\"{}\",graphdriver=\"{}\",kernel=\"{}\",os_type=\"linux\",version=\"{}\"}}",
                info.architecture, info.id, info.driver, info.kernel_version, info.server_version
            ),
            1,
        )],
    );
    let lost: Vec<(String, i64)> = engine
        .log_losses()
        .into_iter()
        .map(|(id, n)| (format!("{{id=\"{id}\"}}"), i64::try_from(n).unwrap_or(i64::MAX)))
        .collect();
    gauge(
        "ferry_container_log_entries_lost_total",
        "Log entries dropped because their destination did not take them",
        "counter",
        &lost,
    );
    out
}
