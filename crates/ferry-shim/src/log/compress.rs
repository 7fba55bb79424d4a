//! Compression of rotated files, by a process of its own at the lowest priority, so that neither output nor the shim's
//! memory has to do with it. The process is this program, called as `ferry-shim compress-log INODE NANOS`: it copies its
//! standard input to its standard output. All names are the shim's business.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use flate2::{Compression, GzBuilder};

/// The first argument that makes this program compress.
pub const COMMAND: &str = "compress-log";

/// Starts compressing. Whoever collects children learns of the end.
///
/// The header's comment says which inode held the log, by which a follower recognises what it has read, and when the
/// last record was written.
pub fn spawn(from: File, to: File, inode: u64, last: i64) -> io::Result<u32> {
    let child = Command::new("/proc/self/exe")
        .arg(COMMAND)
        .arg(inode.to_string())
        .arg(last.to_string())
        .env_clear()
        .stdin(Stdio::from(from))
        .stdout(Stdio::from(to))
        .stderr(Stdio::null())
        .spawn()?;
    Ok(child.id())
}

/// What the process does.
pub fn run(inode: &str, last: &str) -> io::Result<()> {
    // What cannot be had is no reason not to compress.
    let _ = rustix::process::setpriority_process(None, 19);
    let comment = format!("inode={inode} last={last}");
    let header = GzBuilder::new().comment(comment.into_bytes());
    let mut encoder = header.write(io::stdout().lock(), Compression::new(3));
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => encoder.write_all(&buffer[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    encoder.finish()?.flush()
}
