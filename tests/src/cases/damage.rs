//! `system check`, and engines that start on damaged data roots.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{cases, check, equal};
use crate::harness::client::Client;
use crate::harness::daemon::{self, Daemon};
use crate::harness::{Case, Ctx, process};

pub fn cases() -> Vec<Case> {
    [
        cases!("damage", Engine, [a_sound_engine_has_no_problems]),
        cases!(
            "damage",
            Nothing,
            [
                damaged_database,
                lost_database_and_copy,
                half_written_layer,
                damaged_records,
                strays_on_the_host
            ]
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn a_sound_engine_has_no_problems(t: &Ctx) -> Result<()> {
    // Other tests start and end containers meanwhile; what they have is theirs.
    let (name, volume) = (t.name("c"), t.name("v"));
    t.ok(&[
        "run",
        "-d",
        "-p",
        "127.0.0.1:0:80",
        "-v",
        &format!("{volume}:/v"),
        "--name",
        &name,
        "busybox",
        "sleep",
        "1000",
    ])?;
    let output = t.client.run(&["system", "check", "--deep", "--format", "json"])?;
    output.code(0)?;
    let report: Value = serde_json::from_str(&output.stdout)?;
    equal!(report["Problems"].as_array().map_or(0, Vec::len), 0);
    check!(report["Images"].as_u64() > Some(1) && report["Containers"].as_u64() > Some(0), "{report}");
    t.ok(&["rm", "-f", &name])?;
    t.ok(&["volume", "rm", &volume])?;
    Ok(())
}

/// An engine with images, a running container, one that has ended, and a volume; then it is down.
struct Scene {
    daemon: Daemon,
    client: Client,
    running: String,
    ended: String,
}

impl Scene {
    fn new(t: &Ctx) -> Result<Self> {
        let daemon = Daemon::start(&t.settings, "check")?;
        let client = daemon.client()?;
        daemon::import_images(&t.settings, &client)?;
        let running = client.ok(&["run", "-d", "--name", "runs", "busybox", "sleep", "1000"])?;
        let script = "echo kept > /v/file; echo own > /own";
        client.ok(&["run", "--name", "ended", "-v", "vol:/v", "busybox", "sh", "-c", script])?;
        let ended = client.ok(&["inspect", "-f", "{{.Id}}", "ended"])?;
        Ok(Self { daemon, client, running, ended })
    }

    fn data(&self, path: &str) -> PathBuf {
        self.daemon.data_root().join(path)
    }

    /// What the check says, and whether it was content.
    fn check(&self, flags: &[&str]) -> Result<(Value, i32)> {
        let output =
            self.client.run(&[["system", "check", "--format", "json"].as_slice(), flags].concat())?;
        Ok((serde_json::from_str(&output.stdout).with_context(|| output.to_string())?, output.code))
    }

    /// Repairs everything, after which there must be nothing left.
    fn repair(&self, problems: usize) -> Result<()> {
        let (report, code) = self.check(&[])?;
        equal!(code, 1);
        check!(report["Problems"].as_array().map_or(0, Vec::len) == problems, "{report:#}");
        let (report, code) = self.check(&["--repair"])?;
        check!(code == 0, "{report:#}");
        let (report, code) = self.check(&["--deep"])?;
        check!(code == 0, "{report:#}");
        Ok(())
    }

    /// What was sound still works.
    fn works(&self) -> Result<()> {
        equal!(self.client.ok(&["exec", "runs", "echo", "there"])?, "there");
        equal!(self.client.ok(&["run", "--rm", "-v", "vol:/v", "busybox", "cat", "/v/file"])?, "kept");
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let problems = self.daemon.finish();
        check!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(())
    }
}

fn damaged_database(t: &Ctx) -> Result<()> {
    let scene = Scene::new(t)?;
    let images = scene.client.ok(&["images", "--no-trunc"])?;
    let path = scene.data("ferry.redb");
    let sound = |scene: &Scene| -> Result<()> {
        equal!(
            scene.client.ok(&["images", "--no-trunc"])?.split_whitespace().next(),
            images.split_whitespace().next()
        );
        equal!(scene.client.ok(&["images", "-q"])?.lines().count(), images.lines().count() - 1);
        scene.works()
    };
    let wrecks: [fn(Vec<u8>) -> Vec<u8>; 4] = [
        |bytes| bytes.iter().enumerate().map(|(i, b)| if i < 512 { *b } else { b ^ 0x33 }).collect(),
        |mut bytes| {
            bytes.truncate(bytes.len() / 2);
            bytes
        },
        |bytes| vec![0; bytes.len()],
        |_| b"no database".to_vec(),
    ];
    for (number, wreck) in wrecks.iter().enumerate() {
        scene.daemon.kill()?;
        std::fs::write(&path, wreck(std::fs::read(&path)?))?;
        scene.daemon.up().with_context(|| format!("wreck {number}"))?;
        sound(&scene)?;
        let (report, code) = scene.check(&[])?;
        check!(code == 0, "{report:#}");
        // What was set aside is named, with the reason.
        let aside = report["SetAside"].as_array().cloned().unwrap_or_default();
        equal!(aside.len(), number + 1);
        check!(
            aside.iter().all(|a| a["Reason"].as_str().is_some_and(|r| r.contains("database"))),
            "{report:#}"
        );
    }
    scene.finish()
}

fn lost_database_and_copy(t: &Ctx) -> Result<()> {
    let scene = Scene::new(t)?;
    let before = scene.client.ok(&["images", "-q", "--no-trunc"])?;
    scene.daemon.kill()?;
    std::fs::remove_file(scene.data("ferry.redb"))?;
    std::fs::remove_file(scene.data("image/metadata.json"))?;
    scene.daemon.up()?;
    // Their names are lost, they are not.
    let mut after: Vec<String> =
        scene.client.ok(&["images", "-aq", "--no-trunc"])?.lines().map(str::to_owned).collect();
    let mut before: Vec<String> = before.lines().map(str::to_owned).collect();
    after.sort();
    before.sort();
    equal!(after, before);
    let id = scene.client.ok(&["inspect", "-f", "{{.Image}}", "runs"])?;
    scene.client.ok(&["tag", &id, "busybox"])?;
    scene.works()?;
    equal!(scene.check(&["--deep"])?.1, 0);
    scene.finish()
}

fn half_written_layer(t: &Ctx) -> Result<()> {
    let scene = Scene::new(t)?;
    let lost = scene.client.ok(&["image", "inspect", "-f", "{{.Id}}", "hello-world"])?;
    scene.daemon.kill()?;
    // Of hello-world's layer the last part did not reach the disk.
    let layers = scene.data("image/layers");
    let mut damaged = None;
    for entry in std::fs::read_dir(&layers)? {
        let dir = entry?.path();
        if dir.join("diff/hello").exists() {
            std::fs::write(dir.join("recipe"), "")?;
            damaged = Some(dir);
        }
    }
    let damaged = damaged.context("no layer with hello in it")?;
    // And one was not even entered in the books.
    std::fs::create_dir_all(layers.join("zz/diff"))?;
    scene.daemon.up()?;
    scene.works()?;
    let (report, code) = scene.check(&[])?;
    equal!(code, 1);
    let problem = &report["Problems"][0];
    equal!(problem["Area"].as_str(), Some("image"));
    equal!(problem["Path"].as_str(), damaged.to_str());
    scene.repair(1)?;
    check!(!scene.client.ok(&["images", "-aq", "--no-trunc"])?.contains(&lost), "the image is still there");
    check!(!damaged.exists(), "the layer is still there");
    scene.works()?;
    scene.finish()
}

fn damaged_records(t: &Ctx) -> Result<()> {
    let scene = Scene::new(t)?;
    scene.client.ok(&["run", "--name", "sound", "busybox", "true"])?;
    scene.daemon.kill()?;
    let record = scene.data(&format!("containers/{}/container.json", scene.ended));
    let text = std::fs::read(&record)?;
    std::fs::write(&record, &text[..text.len() / 2])?;
    let live = scene.data(&format!("containers/{}/container.json", scene.running));
    let of_live = std::fs::read(&live)?;
    std::fs::write(scene.data("volumes/vol/volume.json"), b"\x00\xffgarbage")?;
    std::fs::create_dir_all(scene.data("volumes/no-volume"))?;
    scene.daemon.up()?;
    equal!(scene.client.ok(&["ps", "-a", "--format", "{{.Names}}"])?, "sound\nruns");
    scene.works()?;
    scene.repair(3)?;
    scene.works()?;
    // The writable layer is where the report says.
    let (report, _) = scene.check(&[])?;
    let aside = report["SetAside"].as_array().cloned().unwrap_or_default();
    let own = aside
        .iter()
        .filter_map(|entry| Some(PathBuf::from(entry["Path"].as_str()?).join(&scene.ended).join("upper/own")))
        .find(|path| path.exists())
        .with_context(|| format!("the writable layer is not in {report:#}"))?;
    equal!(std::fs::read_to_string(own)?, "own\n");

    // A running container's record is damaged: it is left alone, and taken over once the record is back.
    scene.daemon.kill()?;
    std::fs::write(&live, "{")?;
    scene.daemon.up()?;
    let (report, code) = scene.check(&["--repair"])?;
    equal!(code, 1);
    equal!(report["Problems"][0]["State"].as_str(), Some("left"));
    scene.daemon.kill()?;
    std::fs::write(&live, of_live)?;
    scene.daemon.up()?;
    scene.works()?;
    scene.finish()
}

fn strays_on_the_host(t: &Ctx) -> Result<()> {
    let scene = Scene::new(t)?;
    let bridge = &scene.daemon.bridge;
    let run = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words);
        process::ok(command)
    };
    std::fs::create_dir_all(scene.daemon.run.join("exec/containers").join("ab".repeat(16)))?;
    let octets = scene.daemon.address.octets();
    let nobody = format!("{}.{}.{}.250", octets[0], octets[1], octets[2]);
    let element = format!("{{ tcp . 9 : {nobody} . 80 }}");
    // Since Linux 6.9 the table is its engine's alone, and nobody can do this.
    let table = format!("ferry-{bridge}");
    let strayed = run("nft", &["add", "element", "inet", &table, "published", &element]).is_ok();
    // A name as the engine gives them, which nobody else has.
    let veth = format!("vethf{:06x}", std::process::id() & 0x00ff_ffff);
    run("ip", &["link", "add", &veth, "type", "veth", "peer", "name", &veth.replace("veth", "peer")])?;
    run("ip", &["link", "set", &veth, "master", bridge])?;
    let (report, _) = scene.check(&[])?;
    let areas: Vec<&str> =
        report["Problems"].as_array().into_iter().flatten().filter_map(|p| p["Area"].as_str()).collect();
    let expected: &[&str] = if strayed { &["run", "network", "network"] } else { &["run", "network"] };
    equal!(areas, expected);
    scene.repair(expected.len())?;
    check!(!PathBuf::from("/sys/class/net").join(&veth).exists(), "{veth} is still there");
    scene.works()?;
    scene.finish()
}
