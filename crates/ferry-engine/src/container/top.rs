//! `top`: the processes of a container as the host's ps(1) shows them.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use ferry_api::container::ContainerTopResponse;
use ferry_runtime::cgroup::Cgroup;

use super::state::State;
use crate::Engine;
use crate::error::{EngineError, Result};
use crate::events::EventKind;
use crate::spec;

impl Engine {
    /// Runs ps(1) with the client's options (`-ef` by default) and keeps the container's lines. ps is the contract
    /// here: its options and columns are what users ask for.
    pub async fn container_top(&self, id: &str, ps_args: Option<&str>) -> Result<ContainerTopResponse> {
        let snapshot = self.inner.containers.find(id)?.snapshot();
        match snapshot.state {
            State::Running(_) | State::Paused(_) => {}
            State::Restarting(_) => {
                return Err(EngineError::Conflict(format!(
                    "Container {id} is restarting, wait until the container is running"
                )));
            }
            _ => {
                return Err(EngineError::Conflict(format!(
                    "container {} is not running",
                    snapshot.record.id
                )));
            }
        }
        let args = ps_args.filter(|a| !a.trim().is_empty()).unwrap_or("-ef").to_owned();
        check_args(&args).map_err(EngineError::InvalidParameter)?;
        let path = PathBuf::from(spec::cgroup_path(&snapshot.record, &self.inner.config.cgroup_parent));
        let record = Arc::clone(&snapshot.record);
        let top = crate::blocking(move || {
            let pids = Cgroup::open(&path)?.pids()?;
            let output =
                Command::new("ps").args(args.split_whitespace()).stdin(Stdio::null()).output().map_err(
                    |e| EngineError::System(format!("cannot run ps on the host, which top needs: {e}")),
                )?;
            if !output.status.success() {
                let stderr = String::from_utf8_lossy(&output.stderr);
                return Err(EngineError::System(format!(
                    "ps: {}",
                    stderr.lines().next().unwrap_or_default()
                )));
            }
            select(&String::from_utf8_lossy(&output.stdout), &pids).map_err(EngineError::System)
        })
        .await?;
        self.inner.events.container(EventKind::Top, &record, &[]);
        Ok(top)
    }
}

/// Refuses options that would make ps print something else than processes.
fn check_args(args: &str) -> std::result::Result<(), String> {
    // A column renamed with `-o pid=NAME` could pass another column off as the pid.
    if args.split_whitespace().any(|a| a.contains('=') && a.contains("pid=")) {
        return Err(format!("specifying \"{args}\" is not allowed"));
    }
    Ok(())
}

/// Keeps the lines of `pids`, by ps' PID column.
fn select(output: &str, pids: &[i32]) -> std::result::Result<ContainerTopResponse, String> {
    let mut lines = output.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let pid_column = titles.iter().position(|t| t == "PID").ok_or("Couldn't find PID field in ps output")?;
    let mut processes = Vec::new();
    for line in lines {
        let fields = split_fields(line, titles.len());
        let pid = fields.get(pid_column).and_then(|p| p.parse::<i32>().ok());
        if pid.is_some_and(|p| pids.contains(&p)) {
            processes.push(fields);
        }
    }
    Ok(ContainerTopResponse { titles, processes })
}

/// Splits at blanks into at most `count` fields; the last one keeps its blanks.
fn split_fields(line: &str, count: usize) -> Vec<String> {
    let mut fields = Vec::with_capacity(count);
    let mut rest = line.trim_start();
    while fields.len() + 1 < count {
        let Some(end) = rest.find(char::is_whitespace) else { break };
        fields.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    fields.push(rest.trim_end().to_owned());
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines_are_kept() {
        let output = "UID   PID  CMD\nroot    1  /sbin/init\nroot   42  sh -c sleep 1\n";
        let top = select(output, &[42]).unwrap();
        assert_eq!(top.titles, ["UID", "PID", "CMD"]);
        assert_eq!(top.processes, [["root", "42", "sh -c sleep 1"]]);
        assert!(select("UID CMD\n", &[1]).is_err());
        assert!(check_args("-o pid=x").is_err() && check_args("aux").is_ok());
    }
}
