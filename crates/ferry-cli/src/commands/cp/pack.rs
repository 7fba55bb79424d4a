//! Packing local files for a container.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::Ordering;

use ferry_client::Sender;
use tar::{Builder, EntryType, Header};

use super::progress::Counter;
use crate::failure::Failure;
use crate::text;

/// Sends an archive in which `path` is called `name` (`.` for a directory's contents), and counts its bytes.
///
/// # Errors
/// When a file cannot be read; the request is broken off then, so that no half archive is taken.
pub fn pack(path: &Path, name: &str, follow: bool, to: Sender, bytes: &Counter) -> Result<(), Failure> {
    let mut builder = Builder::new(Chunked {
        to: to.clone(),
        buffer: Vec::new(),
        bytes: Counter::clone(bytes),
        closed: false,
    });
    builder.follow_symlinks(false);
    let packed = add(&mut builder, path, Path::new(name), follow).and_then(|()| builder.finish());
    let result = packed.and_then(|()| builder.get_mut().flush());
    match result {
        Ok(()) => Ok(()),
        // The engine stopped reading: it has said why in its answer.
        Err(_) if builder.get_ref().closed => Ok(()),
        Err(e) => {
            let message = format!("{}: {}", path.display(), text::io_reason(&e));
            let _ = to.blocking_send(Err(io::Error::other(message.clone())));
            Err(Failure::new(message))
        }
    }
}

fn add(builder: &mut Builder<Chunked>, path: &Path, name: &Path, follow: bool) -> io::Result<()> {
    let metadata = if follow { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
    let kind = metadata.file_type();
    if kind.is_socket() {
        return Ok(());
    }
    if kind.is_dir() {
        let mut header = Header::new_gnu();
        header.set_metadata(&metadata);
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        builder.append_data(&mut header, name, io::empty())?;
        let mut names: Vec<_> =
            fs::read_dir(path)?.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>()?;
        names.sort();
        for child in names {
            add(builder, &path.join(&child), &name.join(&child), false)?;
        }
        return Ok(());
    }
    if kind.is_symlink() {
        let mut header = Header::new_gnu();
        header.set_metadata(&metadata);
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        return builder.append_link(&mut header, name, fs::read_link(path)?);
    }
    if kind.is_file() {
        let mut header = Header::new_gnu();
        header.set_metadata(&metadata);
        let file = fs::File::open(path)?;
        return builder.append_data(&mut header, name, Exactly { file, left: metadata.len() });
    }
    let mut header = Header::new_gnu();
    header.set_metadata(&metadata);
    header.set_size(0);
    if kind.is_fifo() {
        header.set_entry_type(EntryType::Fifo);
    } else {
        header.set_entry_type(if kind.is_char_device() { EntryType::Char } else { EntryType::Block });
        header.set_device_major(rustix::fs::major(metadata.rdev()))?;
        header.set_device_minor(rustix::fs::minor(metadata.rdev()))?;
    }
    builder.append_data(&mut header, name, io::empty())
}

/// As many bytes of a file as its header announced. One that shrinks meanwhile is an error: the entries
/// behind it would be read as its content.
struct Exactly {
    file: fs::File,
    left: u64,
}

impl io::Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read(&mut buffer[..wanted])?;
        if n == 0 && wanted > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "file became shorter while it was read",
            ));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// Sends what is written in pieces of a convenient size.
#[derive(Debug)]
struct Chunked {
    to: Sender,
    buffer: Vec<u8>,
    bytes: Counter,
    closed: bool,
}

/// Size of a piece.
const PIECE: usize = 64 * 1024;

impl Write for Chunked {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.buffer);
        self.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        self.to.blocking_send(Ok(piece.into())).map_err(|_| {
            self.closed = true;
            io::Error::from(io::ErrorKind::BrokenPipe)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_under_its_new_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), "x").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("d/l")).unwrap();
        let (tx, mut rx) = tokio::sync::mpsc::channel(64);
        pack(&dir.path().join("d"), "new", false, tx, &Counter::default()).unwrap();
        let mut all = Vec::new();
        while let Some(chunk) = rx.blocking_recv() {
            all.extend_from_slice(&chunk.unwrap());
        }
        let mut archive = tar::Archive::new(&all[..]);
        let names: Vec<_> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["new/", "new/f", "new/l"].map(|n| n.trim_end_matches('/').to_owned()));
    }
}
