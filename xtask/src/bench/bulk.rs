//! Large amounts of data through the engines: logs, copies, images.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use super::stats::Samples;
use super::table::Row;
use super::{Bench, IMAGE};

/// How many times each is measured.
const ROUNDS: usize = 3;

/// What these groups leave in the work directory for each other.
pub fn files(work: &Path) -> impl Iterator<Item = PathBuf> {
    let names = ["bulk.bin", "bulk.out", "image-0.tar", "image-1.tar"];
    names.map(|name| work.join(name)).into_iter().filter(|path| path.exists())
}

impl Bench<'_> {
    /// Megabytes (10⁶ bytes) a second.
    fn speed(&self, seconds: &Samples, megabytes: f64) -> Samples {
        seconds.map(|milliseconds| megabytes / (milliseconds / 1e3))
    }

    fn bulk_bytes(&self) -> u64 {
        self.bulk << 20
    }

    /// A container writes lines as fast as it can; then `logs` reads them all.
    pub fn logs(&self) -> Result<Vec<Row>> {
        let bytes = self.bulk_bytes();
        let line = "0123456789".repeat(10);
        let script = format!("yes {line} | head -c {bytes}");
        let run = |contender: &super::Contender| {
            let (name, unlimited) =
                ("bench-logs", ["--log-driver", "json-file", "--log-opt", "max-size=100g"]);
            contender.ask(
                &[&["run", "-d", "--name", name], unlimited.as_slice(), &[IMAGE, "sh", "-c", &script]]
                    .concat(),
            )
        };
        let written = self.rounds(ROUNDS, |contender, round| {
            if round > 0 {
                contender.ask(&["rm", "-f", "bench-logs"])?;
            }
            let began = Instant::now();
            run(contender)?;
            contender.ask(&["wait", "bench-logs"])?;
            Ok(began.elapsed())
        })?;
        let read = self.rounds(ROUNDS, |contender, _| contender.time(&["logs", "bench-logs"]))?;
        let tail =
            self.rounds(10, |contender, _| contender.time(&["logs", "--tail", "100", "bench-logs"]))?;
        for contender in self.engines() {
            contender.ask(&["rm", "-f", "bench-logs"])?;
        }
        let megabytes = bytes as f64 / 1e6;
        let speeds = |all: Vec<Samples>| all.iter().map(|s| self.speed(s, megabytes)).collect();
        Ok(vec![
            Row::plain("stdout to the log", "MB/s", speeds(written)),
            Row::plain("logs of it", "MB/s", speeds(read)),
            Row::plain("logs --tail 100 of it", "ms", tail),
        ])
    }

    /// A file that does not compress, made once.
    fn bulk_file(&self) -> Result<PathBuf> {
        let path = self.work.join("bulk.bin");
        let size = self.bulk_bytes();
        if path.metadata().is_ok_and(|meta| meta.len() == size) {
            return Ok(path);
        }
        let mut random = File::open("/dev/urandom")?.take(size);
        let mut file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        std::io::copy(&mut random, &mut file)?;
        file.flush()?;
        Ok(path)
    }

    pub fn copies(&self) -> Result<Vec<Row>> {
        let file = self.bulk_file()?;
        let out = self.work.join("bulk.out");
        for contender in self.engines() {
            contender.ask(&["run", "-d", "--name", "bench-cp", IMAGE, "sleep", "1000"])?;
        }
        let source = file.display().to_string();
        let inward =
            self.rounds(ROUNDS, |contender, _| contender.time(&["cp", &source, "bench-cp:/bulk"]))?;
        let target = out.display().to_string();
        let outward =
            self.rounds(ROUNDS, |contender, _| contender.time(&["cp", "bench-cp:/bulk", &target]))?;
        for contender in self.engines() {
            contender.ask(&["rm", "-f", "bench-cp"])?;
        }
        if out.exists() {
            std::fs::remove_file(out)?;
        }
        let megabytes = self.bulk_bytes() as f64 / 1e6;
        let speeds = |all: Vec<Samples>| all.iter().map(|s| self.speed(s, megabytes)).collect();
        Ok(vec![
            Row::plain("cp into a container", "MB/s", speeds(inward)),
            Row::plain("cp out of a container", "MB/s", speeds(outward)),
        ])
    }

    /// `commit`, `save`, `load`, `export`, `import` of an image with one large layer.
    pub fn images(&self) -> Result<Vec<Row>> {
        let file = self.bulk_file()?.display().to_string();
        for contender in self.engines() {
            contender.ask(&["create", "--name", "bench-image", IMAGE, "true"])?;
            contender.ask(&["cp", &file, "bench-image:/bulk"])?;
        }
        let archive = |contender: &super::Contender| {
            self.work.join(format!("image-{}.tar", self.index(contender))).display().to_string()
        };
        let remove =
            |contender: &super::Contender, image: &str| contender.ask(&["rmi", "-f", image]).map(drop);
        let committed = self.rounds(ROUNDS, |contender, round| {
            if round > 0 {
                remove(contender, "bench-bulk")?;
            }
            contender.time(&["commit", "bench-image", "bench-bulk"])
        })?;
        let saved = self.rounds(ROUNDS, |contender, _| {
            contender.time(&["save", "-o", &archive(contender), "bench-bulk"])
        })?;
        let loaded = self.rounds(ROUNDS, |contender, _| {
            remove(contender, "bench-bulk")?;
            contender.time(&["load", "-q", "-i", &archive(contender)])
        })?;
        let exported = self.rounds(ROUNDS, |contender, _| {
            contender.time(&["export", "-o", &archive(contender), "bench-image"])
        })?;
        let imported = self.rounds(ROUNDS, |contender, round| {
            if round > 0 {
                remove(contender, "bench-imported")?;
            }
            contender.time(&["import", &archive(contender), "bench-imported"])
        })?;
        for contender in self.engines() {
            contender.ask(&["rm", "-f", "bench-image"])?;
            remove(contender, "bench-bulk")?;
            remove(contender, "bench-imported")?;
            std::fs::remove_file(archive(contender))?;
        }
        Ok(vec![
            Row::plain("commit of a large layer", "ms", committed),
            Row::plain("save of a large image", "ms", saved),
            Row::plain("load of a large image", "ms", loaded),
            Row::plain("export of a large container", "ms", exported),
            Row::plain("import of a large archive", "ms", imported),
        ])
    }
}
