//! `context export` and `import`: a context with its certificates as a tar archive.

use std::io::Read as _;
use std::path::Component;

use clap::Args;
use serde_json::Value;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::out::Stream;
use crate::verb::{Arity, Verb};
use crate::{context, out, text};

/// Export a context to a tar archive FILE or a tar stream on STDOUT.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Export {
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Import a context from a tar or zip file
#[derive(Debug, Args)]
pub struct Import {
    #[arg(hide = true)]
    args: Vec<String>,
}

/// Largest archive that is read; certificates are small.
const MAX_ARCHIVE: u64 = 10 << 20;

impl Verb for Export {
    const PATHS: &'static [&'static str] = &["context export"];
    const USAGE: &'static str = "[OPTIONS] CONTEXT [FILE|-]";
    const ARITY: Arity = Arity::Range(1, 2);

    async fn run(self, app: &App) -> CmdResult {
        let name = self.args[0].as_str();
        context::check_name(name)?;
        let meta = context::load(app, name)?.meta;
        let archive = pack(&meta, &context::tls_files(app, name))?;
        let file = self.args.get(1).cloned().unwrap_or_else(|| format!("{name}.dockercontext"));
        if file == "-" {
            if Stream::Stdout.is_terminal() {
                return Err(Failure::new("cowardly refusing to export to a terminal, specify a file path"));
            }
            out::print(archive)?;
            return Ok(0);
        }
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let failed = |e: std::io::Error| Failure::new(text::open_error(&file, &e));
        let mut open = std::fs::OpenOptions::new();
        let mut to = open.write(true).create_new(true).mode(0o600).open(&file).map_err(failed)?;
        to.write_all(&archive).map_err(failed)?;
        out::note(format!("Written file {}", text::quote(&file)));
        Ok(0)
    }
}

impl Verb for Import {
    const PATHS: &'static [&'static str] = &["context import"];
    const USAGE: &'static str = "CONTEXT FILE|-";
    const ARITY: Arity = Arity::Exact(2);

    async fn run(self, app: &App) -> CmdResult {
        let name = self.args[0].as_str();
        context::check_name(name)?;
        if context::load(app, name).is_ok() {
            return Err(Failure::new(format!("context {} already exists", text::quote(name))));
        }
        let mut bytes = Vec::new();
        let path = self.args[1].as_str();
        let failed = |e: std::io::Error| Failure::new(text::open_error(path, &e));
        if path == "-" {
            std::io::stdin().lock().take(MAX_ARCHIVE + 1).read_to_end(&mut bytes)?;
        } else {
            let file = std::fs::File::open(path).map_err(failed)?;
            file.take(MAX_ARCHIVE + 1).read_to_end(&mut bytes).map_err(failed)?;
        }
        if bytes.len() as u64 > MAX_ARCHIVE {
            return Err(Failure::new("the archive is too large"));
        }
        if bytes.starts_with(b"PK\x03\x04") {
            return Err(Failure::new("importing a context from a zip file is not supported: use a tar file"));
        }
        let (mut meta, tls) = unpack(&bytes)?;
        meta["Name"] = name.into();
        context::save(app, name, &meta)?;
        context::save_tls(app, name, &tls)?;
        out::println(name)?;
        out::note(format!("Successfully imported context {}", text::quote(name)));
        Ok(0)
    }
}

fn pack(meta: &Value, tls: &[(String, Vec<u8>)]) -> Result<Vec<u8>, Failure> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        archive.append_data(&mut header, path, data)
    };
    add("meta.json", tar::EntryType::Regular, 0o644, meta.to_string().as_bytes())?;
    add("tls", tar::EntryType::Directory, 0o700, &[])?;
    let mut last = "";
    for (path, content) in tls {
        let endpoint = path.split('/').next().unwrap_or_default();
        if endpoint != last {
            add(&format!("tls/{endpoint}"), tar::EntryType::Directory, 0o700, &[])?;
            last = endpoint;
        }
        add(&format!("tls/{path}"), tar::EntryType::Regular, 0o600, content)?;
    }
    Ok(archive.into_inner()?)
}

/// A context's file and its certificates.
type Unpacked = (Value, Vec<(String, Vec<u8>)>);

/// Reads an archive. Nothing in it may lie outside of where contexts are stored.
fn unpack(bytes: &[u8]) -> Result<Unpacked, Failure> {
    let mut archive = tar::Archive::new(bytes);
    let (mut meta, mut tls) = (None, Vec::new());
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            continue;
        }
        let path = entry.path()?.into_owned();
        let inside = path.components().all(|c| matches!(c, Component::Normal(_)));
        let path = path.to_string_lossy().into_owned();
        if !inside {
            return Err(Failure::new(format!("{path}: unexpected context file")));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if path == "meta.json" {
            meta = Some(serde_json::from_slice::<Value>(&content)?);
        } else if let Some(file) = path.strip_prefix("tls/").filter(|f| f.split('/').count() == 2) {
            tls.push((file.to_owned(), content));
        } else {
            return Err(Failure::new(format!("{path}: unexpected context file")));
        }
    }
    match meta.filter(Value::is_object) {
        Some(meta) => Ok((meta, tls)),
        None => Err(Failure::new("invalid context: no metadata found")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let meta = serde_json::json!({"Name": "a", "Endpoints": {"docker": {"Host": "unix:///x"}}});
        let tls = vec![("docker/ca.pem".to_owned(), b"cert".to_vec())];
        assert_eq!(unpack(&pack(&meta, &tls).unwrap()).unwrap(), (meta, tls));
    }

    #[test]
    fn nothing_escapes() {
        for path in ["tls/docker/sub/x", "other", "tls/x"] {
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            archive.append_data(&mut header, path, &b"x"[..]).unwrap();
            assert!(unpack(&archive.into_inner().unwrap()).is_err(), "{path}");
        }
        assert!(unpack(b"").is_err());
    }
}
