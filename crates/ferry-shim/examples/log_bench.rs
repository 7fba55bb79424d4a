//! Throughput of the json-file log on one core, from bytes read to bytes written:
//! `cargo run --release -p ferry-shim --example log_bench [DIRECTORY]`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use ferry_shim::log::Log;
use ferry_shim::log::lines::Stream;
use ferry_shim_proto::LogConfig;
use ferry_shim_proto::log::{LogFile, LogFormat};

const READ: usize = 64 * 1024;
const TOTAL: usize = 512 * 1024 * 1024;

fn main() -> io::Result<()> {
    let directory = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = directory.join(format!("ferry-log-bench-{}", std::process::id()));
    let lines = [
        ("2-byte lines", b"y\n".to_vec()),
        ("80-byte lines", [&[b'x'; 79][..], b"\n"].concat()),
        ("80-byte lines with quotes", [&b"GET \"/index.html\" 200 "[..], &[b'x'; 56], b"\n"].concat()),
        ("80-byte lines of UTF-8", ["ä".repeat(39).as_bytes(), b"x\n"].concat()),
        ("60000-byte lines", [&[b'x'; 59_999][..], b"\n"].concat()),
    ];
    for (name, line) in lines {
        let input: Vec<u8> = line.iter().copied().cycle().take(READ).collect();
        let file = LogFile {
            path: path.clone(),
            format: LogFormat::Json,
            max_size: Some(64 << 20),
            max_files: 1,
            compress: false,
            attributes: String::new(),
        };
        let mut log =
            Log::open(LogConfig { file: Some(file), remote: None, buffer: 1 << 20, non_blocking: false })?;
        let rounds = if line.len() < 10 { TOTAL / READ / 16 } else { TOTAL / READ };
        let mut nanos = 1_700_000_000_123_456_789;
        let begin = Instant::now();
        for _ in 0..rounds {
            log.append(Stream::Stdout, &input, nanos);
            nanos += 100_000;
        }
        let seconds = begin.elapsed().as_secs_f64();
        let read = (rounds * READ) as f64 / 1e6;
        let records = rounds * READ / line.len();
        std::fs::remove_file(&path)?;
        writeln!(
            io::stdout(),
            "{name:27} {:7.0} MB/s of output, {:6.2} million records/s",
            read / seconds,
            records as f64 / seconds / 1e6
        )?;
    }
    Ok(())
}
