//! `update`.

use clap::Args;
use ferry_client::Request;
use serde_json::{Map, Value};

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::opts::values;
use crate::verb::{Arity, Verb};
use crate::{out, text, units};

/// Update configuration of one or more containers
#[derive(Debug, Args)]
pub struct Update {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16", value_parser = text::parse_uint16)]
    blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int", value_parser = text::parse_int)]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", value_parser = text::parse_int)]
    cpu_quota: Option<i64>,
    /// Limit the CPU real-time period in microseconds
    #[arg(long, value_name = "int", value_parser = text::parse_int)]
    cpu_rt_period: Option<i64>,
    /// Limit the CPU real-time runtime in microseconds
    #[arg(long, value_name = "int", value_parser = text::parse_int)]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(long, short = 'c', value_name = "int", value_parser = text::parse_int)]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = values::cpus)]
    cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Kernel memory limit (deprecated)
    #[arg(long, value_name = "bytes", value_parser = units::ram_in_bytes, hide = true)]
    kernel_memory: Option<i64>,
    /// Memory limit
    #[arg(long, short = 'm', value_name = "bytes", value_parser = units::ram_in_bytes)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = units::ram_in_bytes)]
    memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = values::swap)]
    memory_swap: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", value_parser = text::parse_int)]
    pids_limit: Option<i64>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string")]
    restart: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for Update {
    const PATHS: &'static [&'static str] = &["container update", "update"];
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, app: &App) -> CmdResult {
        let body = Value::Object(self.body()?);
        let mut failures = Vec::new();
        for name in &self.args {
            let request =
                Request::post(format!("/containers/{}/update", Request::escape(name))).json(&body)?;
            match app.json(request).await {
                Ok(answer) => {
                    for warning in answer["Warnings"].as_array().into_iter().flatten() {
                        out::note(warning.as_str().unwrap_or_default());
                    }
                    out::println(name)?;
                }
                Err(e) if e.unreachable => return Err(e),
                Err(e) => failures.push(e.message),
            }
        }
        if failures.is_empty() { Ok(0) } else { Err(Failure::new(failures.join("\n"))) }
    }
}

impl Update {
    fn body(&self) -> Result<Map<String, Value>, Failure> {
        let numbers = [
            ("BlkioWeight", self.blkio_weight.map(i64::from)),
            ("CpuPeriod", self.cpu_period),
            ("CpuQuota", self.cpu_quota),
            ("CpuRealtimePeriod", self.cpu_rt_period),
            ("CpuRealtimeRuntime", self.cpu_rt_runtime),
            ("CpuShares", self.cpu_shares),
            ("NanoCpus", self.cpus),
            ("KernelMemory", self.kernel_memory),
            ("Memory", self.memory),
            ("MemoryReservation", self.memory_reservation),
            ("MemorySwap", self.memory_swap),
            ("PidsLimit", self.pids_limit),
        ];
        let mut body: Map<String, Value> =
            numbers.into_iter().filter_map(|(k, v)| v.map(|v| (k.to_owned(), v.into()))).collect();
        for (key, value) in [("CpusetCpus", &self.cpuset_cpus), ("CpusetMems", &self.cpuset_mems)] {
            if let Some(value) = value {
                body.insert(key.to_owned(), value.as_str().into());
            }
        }
        if let Some(policy) = &self.restart {
            body.insert("RestartPolicy".to_owned(), values::restart(policy)?);
        }
        if body.is_empty() {
            return Err(Failure::new("you must provide one or more flags when using this command"));
        }
        Ok(body)
    }
}
