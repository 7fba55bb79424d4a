//! Events: a bounded memory of the last ones and a channel to whoever listens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use ferry_api::{EventActor, EventMessage};
use tokio::sync::broadcast;

use crate::container::record::ContainerRecord;
use crate::time::now_nanos;

/// How many past events `--since` can reach, as in Docker.
const REMEMBERED: usize = 256;
/// How far a listener may fall behind before it misses events.
const LISTENER_BACKLOG: usize = 4096;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    ArchivePath,
    Attach,
    Commit,
    Prune,
    Unmount,
    Mount,
    Connect,
    Create,
    Delete,
    Destroy,
    Detach,
    Die,
    Disconnect,
    ExecDetach,
    ExecDie,
    Export,
    ExtractToDir,
    Import,
    Kill,
    Load,
    Oom,
    Pause,
    Pull,
    Rename,
    Resize,
    Restart,
    Save,
    Start,
    Stop,
    Tag,
    Top,
    Unpause,
    Untag,
    Update,
}

impl EventKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::ArchivePath => "archive-path",
            Self::Attach => "attach",
            Self::Commit => "commit",
            Self::Prune => "prune",
            Self::Unmount => "unmount",
            Self::Mount => "mount",
            Self::Connect => "connect",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Destroy => "destroy",
            Self::Detach => "detach",
            Self::Die => "die",
            Self::Disconnect => "disconnect",
            Self::ExecDetach => "exec_detach",
            Self::ExecDie => "exec_die",
            Self::Export => "export",
            Self::ExtractToDir => "extract-to-dir",
            Self::Import => "import",
            Self::Kill => "kill",
            Self::Load => "load",
            Self::Oom => "oom",
            Self::Pause => "pause",
            Self::Pull => "pull",
            Self::Rename => "rename",
            Self::Resize => "resize",
            Self::Restart => "restart",
            Self::Save => "save",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Tag => "tag",
            Self::Top => "top",
            Self::Unpause => "unpause",
            Self::Untag => "untag",
            Self::Update => "update",
        }
    }
}

/// The events of one engine.
pub(crate) struct EventBus {
    past: Mutex<VecDeque<EventMessage>>,
    sender: broadcast::Sender<EventMessage>,
}

impl Default for EventBus {
    fn default() -> Self {
        Self { past: Mutex::default(), sender: broadcast::channel(LISTENER_BACKLOG).0 }
    }
}

impl EventBus {
    /// Something happened to a container. Its name, image and labels become attributes.
    pub fn container(&self, kind: EventKind, record: &ContainerRecord, extra: &[(&str, String)]) {
        self.container_action(kind.as_str().to_owned(), record, extra);
    }

    /// An exec was created or started: the action carries its command line.
    pub fn exec(&self, action: &str, record: &ContainerRecord, exec: &str, command: &[String]) {
        // As Docker puts it together: a program without arguments leaves a blank.
        let (program, arguments) = command.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
        self.container_action(
            format!("{action}: {program} {}", arguments.join(" ")),
            record,
            &[("execID", exec.to_owned())],
        );
    }

    /// A container's health changed.
    pub fn health(&self, record: &ContainerRecord, status: &str) {
        self.container_action(format!("health_status: {status}"), record, &[]);
    }

    fn container_action(&self, action: String, record: &ContainerRecord, extra: &[(&str, String)]) {
        let mut attributes: BTreeMap<String, String> =
            record.config.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        attributes.insert("image".to_owned(), record.config.image.clone());
        attributes.insert("name".to_owned(), record.name.to_string());
        attributes.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        self.publish("container", action, record.id.to_string(), attributes);
    }

    /// Something happened to an image; `labels` are the image's.
    pub fn image(&self, kind: EventKind, id: &str, name: &str, labels: &BTreeMap<String, String>) {
        let mut attributes = labels.clone();
        attributes.insert("name".to_owned(), name.to_owned());
        self.publish("image", kind.as_str().to_owned(), id.to_owned(), attributes);
    }

    /// Something happened to a network, or to a container's endpoint on it.
    pub fn network(&self, kind: EventKind, id: &str, name: &str, driver: &str, container: Option<&str>) {
        let mut attributes =
            BTreeMap::from([("name".to_owned(), name.to_owned()), ("type".to_owned(), driver.to_owned())]);
        attributes.extend(container.map(|id| ("container".to_owned(), id.to_owned())));
        self.publish("network", kind.as_str().to_owned(), id.to_owned(), attributes);
    }

    /// Something happened to a volume.
    pub fn volume(&self, kind: EventKind, name: &str) {
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        self.publish("volume", kind.as_str().to_owned(), name.to_owned(), attributes);
    }

    /// Something happened to the engine itself.
    pub fn daemon(&self, action: &str, id: &str, name: &str, mut attributes: BTreeMap<String, String>) {
        attributes.insert("name".to_owned(), name.to_owned());
        self.publish("daemon", action.to_owned(), id.to_owned(), attributes);
    }

    /// The volumes of a container that starts, or has ended.
    pub fn volumes_of(&self, kind: EventKind, record: &ContainerRecord) {
        for point in record.mounts.iter().filter(|m| m.kind == "volume") {
            let mut attributes = BTreeMap::from([
                ("container".to_owned(), record.id.to_string()),
                ("driver".to_owned(), point.driver.clone()),
            ]);
            if kind == EventKind::Mount {
                attributes.insert("destination".to_owned(), point.destination.clone());
                attributes.insert("propagation".to_owned(), point.propagation.clone());
                attributes.insert("read/write".to_owned(), point.rw.to_string());
            }
            self.publish("volume", kind.as_str().to_owned(), point.name.clone(), attributes);
        }
    }

    /// Everything unused of one kind was removed.
    pub fn prune(&self, object: &str, reclaimed: u64) {
        let attributes = BTreeMap::from([("reclaimed".to_owned(), reclaimed.to_string())]);
        self.publish(object, EventKind::Prune.as_str().to_owned(), String::new(), attributes);
    }

    fn publish(&self, object: &str, action: String, id: String, attributes: BTreeMap<String, String>) {
        let nanos = now_nanos();
        let event = EventMessage {
            kind: object.to_owned(),
            action,
            actor: EventActor { id, attributes: attributes.into() },
            scope: "local".to_owned(),
            time: nanos / 1_000_000_000,
            time_nano: nanos,
            ..EventMessage::default()
        };
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() == REMEMBERED {
            past.pop_front();
        }
        past.push_back(event.clone());
        // Sent under the lock, so that a new listener sees each event exactly once. No listener is no error.
        let _ = self.sender.send(event);
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Events since `since` (nanoseconds), and those to come.
    pub fn listen(&self, since: Option<i64>) -> (Vec<EventMessage>, broadcast::Receiver<EventMessage>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.sender.subscribe();
        let matching = match since {
            Some(since) => past.iter().filter(|e| e.time_nano >= since).cloned().collect(),
            None => Vec::new(),
        };
        (matching, receiver)
    }
}
