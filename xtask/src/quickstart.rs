//! From a clone to a Debian container and a web server on a published port, with an engine of its
//! own beside whatever else runs on the host.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::engine::Engine;
use crate::product::Product;
use crate::ui::{self, Steps};
use crate::{apt, fixtures, host, http, product, sh, sources};

/// Options of `cargo xtask quickstart`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove everything an earlier quickstart left: containers, engine, bridge and data
    #[arg(long)]
    clean: bool,
    /// Where the engine keeps its data
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

const BRIDGE: &str = "ferryqs0";
const RUN_DIR: &str = "/run/ferry-quickstart";
const SUBNETS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 201, 0, 1),
    Ipv4Addr::new(172, 29, 201, 1),
    Ipv4Addr::new(192, 168, 201, 1),
    Ipv4Addr::new(10, 77, 201, 1),
];
const HUB: (&str, u16) = ("registry-1.docker.io", 443);
const HUB_IMAGE: &str = "debian:stable-slim";

/// The chore; `Ok(true)` when all went well.
pub fn run(args: &Args) -> Result<bool> {
    host::require_root(if args.clean { "quickstart --clean" } else { "quickstart" })?;
    let dir = data_dir(args)?;
    let address = host::free_subnet(&SUBNETS, BRIDGE).context("all subnets of the quickstart are in use")?;
    if args.clean {
        return clean(&dir, address).map(|()| true);
    }

    let mut steps = Steps::new(8);
    let mut engine = None;
    match walk(&mut steps, &mut engine, dir, address) {
        Ok(()) => Ok(true),
        Err(error) => {
            if let Some(engine) = engine {
                eprintln!("\n--- end of the daemon's log ---\n{}\n---", engine.log_tail());
            }
            Err(error.context(format!("{} failed", steps.current())))
        }
    }
}

fn data_dir(args: &Args) -> Result<PathBuf> {
    let mut candidates: Vec<PathBuf> = args.dir.iter().cloned().collect();
    if args.dir.is_none() {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
        candidates.extend(state.map(|dir| dir.join("ferry-quickstart")));
        candidates.push(host::target_dir()?.join("quickstart"));
        candidates.push(PathBuf::from("/var/lib/ferry-quickstart"));
    }
    host::data_dir(&candidates)
}

fn walk(steps: &mut Steps, slot: &mut Option<Engine>, dir: PathBuf, address: Ipv4Addr) -> Result<()> {
    steps.next("Build ferry (release)");
    apt::install(&["gcc", "libc6-dev"])?;
    let product = product::build()?;
    steps.done("built");

    steps.next("Start an engine of its own");
    let engine = slot.insert(Engine::new(&product, dir, PathBuf::from(RUN_DIR), BRIDGE, address));
    engine.stop()?;
    engine.start()?;
    ui::note(format!("data in {}, API at {}", engine.dir.display(), engine.host()));
    ui::note(format!("bridge {BRIDGE}, containers get addresses of {address}/24"));
    steps.done("the engine answers");
    // Left from an earlier run.
    engine.ask(&["rm", "-f", "quickstart-setup", "quickstart-web"])?;

    steps.next("Get a Debian image");
    let base = base_image(engine)?;
    engine.show(&["images"])?;
    steps.done(&format!("{base} is there"));

    steps.next("Run commands in containers");
    engine.show(&["run", "--rm", &base, "cat", "/etc/os-release"])?;
    engine.show(&[
        "run",
        "--rm",
        "--hostname",
        "hello",
        "--memory",
        "64m",
        &base,
        "sh",
        "-c",
        "hostname; id; nproc",
    ])?;
    steps.done("two containers came and went");

    steps.next("Install nginx in a container and commit it");
    web_image(engine, &base)?;
    steps.done("quickstart/web is there");

    steps.next("Run it on a published port");
    let port = free_port()?;
    engine.show(&["run", "-d", "-p", &format!("{port}:80"), "--name", "quickstart-web", "quickstart/web"])?;
    let url = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (code, body) = http::get(url, "/", Duration::from_secs(10))?;
    if code != 200 || !body.contains("nginx") {
        bail!("http://{url}/ answered {code}:\n{body}");
    }
    let title = body.lines().find(|line| line.contains("<title>")).unwrap_or_default();
    ui::note(format!("GET http://{url}/ → {code}, {} bytes, {}", body.len(), title.trim()));
    steps.done("the page came over the published port");

    steps.next("Look at it");
    engine.show(&["ps"])?;
    engine.show(&["logs", "quickstart-web"])?;
    engine.show(&["stats", "--no-stream"])?;
    steps.done("seen");

    steps.next("Go on from here");
    how_to_go_on(engine, &product, &base, port);
    Ok(())
}

/// The name of a Debian image: one that is there, else pulled, else made on this host.
fn base_image(engine: &Engine) -> Result<String> {
    for name in [HUB_IMAGE, "debian:latest"] {
        if engine.ask(&["image", "inspect", name]).is_ok() {
            ui::note(format!("{name} is there from an earlier run"));
            return Ok(name.to_owned());
        }
    }
    if hub_answers() {
        match engine.show(&["pull", HUB_IMAGE]) {
            Ok(()) => return Ok(HUB_IMAGE.to_owned()),
            Err(error) => {
                ui::note(format!("pulling did not work ({error:#}); making the image here instead"))
            }
        }
    } else {
        ui::note("Docker Hub cannot be reached; making the image here, from the Debian mirror of this host");
    }
    let tar = fixtures::debian(&host::cache_dir()?)?;
    engine.show(&["import", &tar.display().to_string(), "debian:latest"])?;
    Ok("debian:latest".to_owned())
}

fn hub_answers() -> bool {
    // The resolver has its own, longer patience: ask it in a thread and do not wait for that.
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let reached = HUB
            .to_socket_addrs()
            .ok()
            .and_then(|mut addrs| addrs.next())
            .is_some_and(|addr| TcpStream::connect_timeout(&addr, Duration::from_secs(3)).is_ok());
        // Nobody listens any more when the answer is late.
        let _ = sender.send(reached);
    });
    receiver.recv_timeout(Duration::from_secs(3)).unwrap_or(false)
}

/// Makes `quickstart/web`: the base image with nginx, logging to the container's stdout.
fn web_image(engine: &Engine, base: &str) -> Result<()> {
    if engine.ask(&["image", "inspect", "quickstart/web"]).is_ok() {
        ui::note("quickstart/web is there from an earlier run");
        return Ok(());
    }
    let codename = host::os_release("VERSION_CODENAME").unwrap_or_default();
    let own = sources::render(&sources::of_distribution(&sources::read(Path::new("/")), &codename));
    // An image from the Hub knows the public mirror only; the host's may be the one that is reachable.
    let script = "set -e\n\
        . /etc/os-release\n\
        if [ -n \"$HOST_SOURCES\" ] && [ \"$VERSION_CODENAME\" = \"$HOST_CODENAME\" ]; then\n\
            rm -f /etc/apt/sources.list.d/*\n\
            printf '%s' \"$HOST_SOURCES\" > /etc/apt/sources.list\n\
        fi\n\
        printf '%s' \"$HOST_APT_CONF\" > /etc/apt/apt.conf.d/95host\n\
        apt-get update -q\n\
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends nginx-light || \
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends nginx\n\
        rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb\n\
        ln -sf /dev/stdout /var/log/nginx/access.log\n\
        ln -sf /dev/stderr /var/log/nginx/error.log\n";
    ui::command(&format!(
        "ferry run --name quickstart-setup {base} sh -c 'apt-get update; apt-get install -y nginx …'"
    ));
    sh::run(&mut engine.ferry([
        "run",
        "--name",
        "quickstart-setup",
        "-e",
        &format!("HOST_SOURCES={own}"),
        "-e",
        &format!("HOST_CODENAME={codename}"),
        "-e",
        &format!("HOST_APT_CONF={}", apt::proxy_config()),
        base,
        "sh",
        "-c",
        script,
    ]))?;
    engine.show(&[
        "commit",
        "--change",
        "CMD [\"nginx\", \"-g\", \"daemon off;\"]",
        "--change",
        "EXPOSE 80",
        "quickstart-setup",
        "quickstart/web",
    ])?;
    engine.ask(&["rm", "quickstart-setup"])?;
    Ok(())
}

fn free_port() -> Result<u16> {
    (8080..8180)
        .find(|&port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok())
        .context("no free port between 8080 and 8179")
}

fn how_to_go_on(engine: &Engine, product: &Product, base: &str, port: u16) {
    println!(
        "\n    The web server keeps running: http://127.0.0.1:{port}/\n\n\
         \x20   Use this engine with ferry, or with any Docker client:\n\
         \x20     export DOCKER_HOST={host}\n\
         \x20     export PATH={path}:$PATH\n\
         \x20     ferry run -it --rm {base} bash\n\
         \x20     ferry logs -f quickstart-web\n\n\
         \x20   Remove it with all it made:\n\
         \x20     sudo -E cargo xtask quickstart --clean",
        host = engine.host(),
        path = product.dir.display(),
    );
}

fn clean(dir: &Path, address: Ipv4Addr) -> Result<()> {
    let engine = Engine::new(&product::locate()?, dir.to_owned(), PathBuf::from(RUN_DIR), BRIDGE, address);
    let outcome = engine.purge();
    if outcome.is_err() {
        eprintln!("\n--- end of the daemon's log ---\n{}\n---", engine.log_tail());
    }
    outcome?;
    ui::note("removed containers, engine, bridge and data of the quickstart");
    Ok(())
}
