//! The targets. Each checks more than that nothing panics: what is accepted must survive being written and read
//! again, what is unpacked must stay inside, what is refused must leave nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ferry_api::Filters;
use ferry_image::ImageStore;
use ferry_image::layer::apply::{DIFF, apply};
use ferry_image::layer::recipe::Recipe;
use ferry_types::ImageRef;

/// Names of images.
pub fn image_reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(reference) = text.parse::<ImageRef>() else { return };
    let written = reference.to_string();
    assert_eq!(written.parse::<ImageRef>().as_ref(), Ok(&reference), "{text:?} as {written:?}");
    // Not always the same image: Docker, too, shortens docker.io/a.b/c to a.b/c.
    let familiar = reference.familiar();
    assert!(familiar.parse::<ImageRef>().is_ok(), "{text:?} as {familiar:?}");
    let tagged = reference.tag_default();
    assert!(tagged.tag().is_some() || tagged.digest().is_some(), "{text:?}");
}

/// Layers: nothing may appear outside of the directory, and what was unpacked can be packed again bit for bit.
pub fn tar_layer(data: &[u8]) {
    let Ok(dir) = tempfile::tempdir() else { return };
    let (stage, outside) = (dir.path().join("stage"), dir.path().join("outside"));
    for made in [&stage.join(DIFF), &outside] {
        if fs::create_dir_all(made).is_err() {
            return;
        }
    }
    let applied = apply(data, &stage, true);
    let names = |dir: &Path| -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .map(|entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        names.sort();
        names
    };
    assert_eq!(names(dir.path()), ["outside", "stage"], "something is beside the layer");
    assert!(names(&outside).is_empty(), "something is outside of the layer");
    let Ok(applied) = applied else { return };
    let Ok(recipe) = Recipe::open(&stage) else { panic!("a layer without a recipe") };
    // What a sparse file unpacks to may be larger than any disk; its tar is not.
    let mut again = Limited { bytes: Vec::new(), limit: data.len() };
    match recipe.rebuild(&mut again) {
        Ok(()) => {
            let length = usize::try_from(applied.tar_size).unwrap_or(usize::MAX);
            assert_eq!(again.bytes.len(), length, "the layer's tar has another length");
            assert_eq!(again.bytes, data[..length.min(data.len())], "the layer's tar is another one");
        }
        Err(error) => panic!("the layer cannot be packed again: {error}"),
    }
}

/// Takes so many bytes and no more.
struct Limited {
    bytes: Vec<u8>,
    limit: usize,
}

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Archives for `load`, in both formats: refused ones leave nothing.
pub fn image_archive(data: &[u8]) {
    struct Bench {
        _dir: tempfile::TempDir,
        root: PathBuf,
        store: Arc<ImageStore>,
    }
    static BENCH: OnceLock<Option<Bench>> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().ok()?;
        let database = redb::Database::create(dir.path().join("db")).ok()?;
        let root = dir.path().join("images");
        let store = Arc::new(ImageStore::open(&root, Arc::new(database)).ok()?);
        Some(Bench { _dir: dir, root, store })
    };
    let Some(bench) = BENCH.get_or_init(make) else { return };
    let mut source = data;
    let before = bench.store.disk_usage();
    if bench.store.load(&mut source, None, &mut |_| {}).is_err() {
        let after = bench.store.disk_usage();
        // An archive of several images may be good up to some point.
        assert!(
            after.images >= before.images && after.layers >= before.layers,
            "a failed load took images away"
        );
    }
    let staged = fs::read_dir(bench.root.join("tmp")).map_or(0, Iterator::count);
    assert_eq!(staged, 0, "staging directories stay behind");
    let layers = fs::read_dir(bench.root.join("layers")).map_or(0, Iterator::count);
    assert_eq!(layers, bench.store.disk_usage().layers, "layers that nobody knows");
}

/// Bodies of `POST /containers/create`.
pub fn create_body(data: &[u8]) {
    ferry_engine::fuzz::create_body(data);
    let Ok(request) = ferry_api::json::from_slice::<ferry_api::container::ContainerCreateRequest>(data)
    else {
        return;
    };
    let Ok(written) = ferry_api::json::to_vec(&request) else { panic!("it cannot be written") };
    match ferry_api::json::from_slice::<ferry_api::container::ContainerCreateRequest>(&written) {
        Ok(again) => assert_eq!(again, request, "{}", String::from_utf8_lossy(&written)),
        Err(error) => panic!("{}: {error}", String::from_utf8_lossy(&written)),
    }
}

/// Values of `-p` and `--expose`.
pub fn ports(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    ferry_cli::fuzz::ports(text);
    ferry_engine::fuzz::ports(text);
}

/// DNS messages: as the query of a container, and as the response of another server to one.
pub fn dns_message(data: &[u8]) {
    use ferry_dns::answer::{Outcome, Transport, adapt, answer, failure, limit};
    use ferry_dns::table::{Host, Network, Table, View};

    let mut table = Table::default();
    let addresses = ["10.1.0.2", "fd00::2"].iter().filter_map(|a| a.parse().ok()).collect();
    let host = Host { name: "web".into(), names: vec!["web".into(), "www.example".into()], addresses };
    table.set("n", &Network { name: "net".into(), hosts: vec![host] });
    let servers: Vec<std::net::IpAddr> = vec![[192, 0, 2, 1].into()];
    let view = View {
        networks: vec!["n".into()],
        links: vec![("db".into(), "web".into())],
        servers: servers.clone(),
        ndots: data.len().is_multiple_of(2),
        ..View::default()
    };
    for transport in [Transport::Udp, Transport::Tcp] {
        let room = limit(data, transport);
        match answer(&table, &view, data, transport, data.len()) {
            Outcome::Respond(response) => {
                assert!(response.len() <= room, "{} bytes where {room} fit", response.len());
                assert_eq!(response.get(..2), data.get(..2), "the id of another query");
                assert!(response.get(2).is_some_and(|flags| flags & 0x80 != 0), "a query as response");
                assert!(
                    matches!(answer(&table, &view, &response, transport, 0), Outcome::Ignore),
                    "responses are not answered"
                );
            }
            Outcome::Forward(question) => {
                assert!(question.name.ends_with('.') && question.name.len() <= 1024, "{}", question.name);
                let Some(refusal) = failure(data) else { panic!("no way to say that nobody answered") };
                assert!(refusal.len() <= 512);
                // What came back is remembered under the question and told to whoever asks.
                let mut cache = ferry_dns::cache::Cache::default();
                let now = std::time::Instant::now();
                cache.put(question.clone(), data, now);
                for later in [0, 7, 100_000] {
                    cache.get(&question, now + std::time::Duration::from_secs(later));
                }
            }
            Outcome::Ignore => {}
        }
        if let Some(adapted) = adapt(data, [1, 2], room) {
            assert!(
                adapted.len() <= room && adapted.get(..2) == Some(&[1, 2]),
                "{} of {room}",
                adapted.len()
            );
        }
    }
    let (query, response) = data.split_at(data.len() / 2);
    ferry_dns::upstream::answers(query, response);
    ferry_dns::upstream::answers(data, data);
}

/// Values of `--mount`, `-v` and `--tmpfs`, in the client and in the engine.
pub fn mounts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    ferry_cli::fuzz::mounts(text);
    ferry_engine::fuzz::bind(text);
}

/// The `filters` parameter.
pub fn filters(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(filters) = Filters::parse(text) else { return };
    ferry_engine::fuzz::list_filters(&filters);
    ferry_cli::fuzz::filter(text);
}

/// Values of `--format`.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    ferry_cli::fuzz::template(text);
}

/// Log files, the first bytes of the input being the options they are read with.
pub fn log_file(data: &[u8]) {
    let Ok(dir) = tempfile::tempdir() else { return };
    let (options, contents) = data.split_at(data.len().min(4));
    let path = dir.path().join("log");
    if fs::write(&path, contents).is_err() {
        return;
    }
    let option = |at: usize| options.get(at).copied().unwrap_or_default();
    let bytes = ferry_engine::fuzz::log_file(&path, option(0), usize::from(option(1)));
    // Every byte comes from a byte of the file: time stamps and attributes at most double a short line.
    assert!(bytes <= contents.len().saturating_mul(80) + 4096, "{bytes} bytes out of {}", contents.len());
}
