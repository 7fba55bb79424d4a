//! The runtime command's operations, as an engine calls them.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use ferry_runtime::oci::{CreateOptions, ExecOptions, OciError, Runtime, Status};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

use crate::support::{Fixture, wait};

pub const TESTS: &[(&str, fn())] = &[
    ("oci::from_create_to_delete", from_create_to_delete),
    ("oci::a_program_that_cannot_start", a_program_that_cannot_start),
    ("oci::console_socket", console_socket),
    ("oci::exec", exec),
    ("oci::bad_ids", bad_ids),
];

struct Bundle {
    fixture: Fixture,
    runtime: Runtime,
}

impl Bundle {
    fn new(mut fixture: Fixture) -> Bundle {
        fixture.set("/root/path", json!(fixture.lower()));
        let runtime = Runtime::new(fixture.dir.path().join("state"));
        let bundle = Bundle { fixture, runtime };
        std::fs::write(bundle.path("config.json"), serde_json::to_vec(&bundle.fixture.spec).unwrap())
            .unwrap();
        bundle
    }

    fn path(&self, name: &str) -> PathBuf {
        self.fixture.dir.path().join(name)
    }

    fn options(&self) -> CreateOptions {
        let (bundle, pid_file) = (self.fixture.dir.path().to_owned(), Some(self.path("pid")));
        CreateOptions { bundle, pid_file, ..CreateOptions::default() }
    }

    fn status(&self) -> Status {
        self.runtime.state("c").unwrap().status
    }

    fn pid(&self) -> i32 {
        std::fs::read_to_string(self.path("pid")).unwrap().parse().unwrap()
    }
}

fn sleeping() -> Bundle {
    let mut fixture = Fixture::new("");
    fixture.args(&["sleep", "1000"]);
    Bundle::new(fixture)
}

fn from_create_to_delete() {
    let bundle = sleeping();
    let runtime = &bundle.runtime;
    assert!(runtime.list().unwrap().is_empty());
    runtime.create("c", &bundle.options()).unwrap();
    assert_eq!(bundle.status(), Status::Created);
    assert_eq!(runtime.state("c").unwrap().pid, bundle.pid());
    assert!(matches!(runtime.create("c", &bundle.options()), Err(OciError::Exists(_))));
    runtime.start("c").unwrap();
    assert_eq!(bundle.status(), Status::Running);
    assert!(matches!(runtime.start("c"), Err(OciError::Status { .. })));
    assert_eq!(runtime.ps("c").unwrap(), [bundle.pid()]);
    runtime.pause("c").unwrap();
    assert_eq!(bundle.status(), Status::Paused);
    runtime.resume("c").unwrap();
    assert!(matches!(runtime.delete("c", false), Err(OciError::Status { .. })));
    assert_eq!(runtime.list().unwrap().len(), 1);
    runtime.kill("c", 9, false).unwrap();
    assert_eq!(wait(bundle.pid()), 137);
    assert_eq!(bundle.status(), Status::Stopped);
    assert!(matches!(runtime.kill("c", 9, false), Err(OciError::NotRunning)));
    runtime.delete("c", false).unwrap();
    assert!(matches!(runtime.state("c"), Err(OciError::NotFound(_))));
    bundle.fixture.assert_gone();

    // One that was never started goes as well.
    runtime.create("c", &bundle.options()).unwrap();
    let pid = bundle.pid();
    runtime.delete("c", true).unwrap();
    assert_eq!(wait(pid), 137);
    bundle.fixture.assert_gone();
}

fn a_program_that_cannot_start() {
    let mut fixture = Fixture::new("");
    fixture.args(&["foo"]);
    let bundle = Bundle::new(fixture);
    let error = bundle.runtime.create("c", &bundle.options()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unable to start container process: exec: \"foo\": executable file not found in $PATH"
    );
    assert!(bundle.runtime.list().unwrap().is_empty());
    bundle.fixture.assert_gone();
}

fn console_socket() {
    let mut fixture = Fixture::new("tty; stty size");
    fixture.set("/process/terminal", json!(true));
    fixture.set("/process/consoleSize", json!({"height": 12, "width": 34}));
    let bundle = Bundle::new(fixture);
    assert!(matches!(bundle.runtime.create("c", &bundle.options()), Err(OciError::Options(_))));
    let listener = UnixListener::bind(bundle.path("console")).unwrap();
    let options = CreateOptions { console_socket: Some(bundle.path("console")), ..bundle.options() };
    bundle.runtime.create("c", &options).unwrap();
    let master = receive(&listener);
    bundle.runtime.start("c").unwrap();
    let mut output = Vec::new();
    let mut buffer = [0; 256];
    while let Ok(n @ 1..) = rustix::io::read(&master, &mut buffer) {
        output.extend_from_slice(&buffer[..n]);
    }
    assert_eq!(String::from_utf8(output).unwrap(), "/dev/pts/0\r\n12 34\r\n");
    assert_eq!(wait(bundle.pid()), 0);
    bundle.runtime.delete("c", false).unwrap();
}

fn receive(listener: &UnixListener) -> OwnedFd {
    let (connection, _) = listener.accept().unwrap();
    let mut bytes = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(connection.as_fd(), &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .unwrap();
    let Some(RecvAncillaryMessage::ScmRights(mut fds)) = control.drain().next() else {
        panic!("no descriptor")
    };
    fds.next().unwrap()
}

fn exec() {
    let bundle = sleeping();
    let options =
        ExecOptions { detach: true, pid_file: Some(bundle.path("exec.pid")), ..ExecOptions::default() };
    bundle.runtime.create("c", &bundle.options()).unwrap();
    let mut process = bundle.runtime.process_of("c").unwrap();
    process.set_args(Some(vec!["sh".into(), "-c".into(), "exit 9".into()]));
    assert!(matches!(bundle.runtime.exec("c", &process, &options), Err(OciError::Status { .. })));
    bundle.runtime.start("c").unwrap();
    bundle.runtime.exec("c", &process, &options).unwrap();
    assert_eq!(wait(std::fs::read_to_string(bundle.path("exec.pid")).unwrap().parse().unwrap()), 9);
    let init = bundle.pid();
    bundle.runtime.delete("c", true).unwrap();
    wait(init);
}

fn bad_ids() {
    let bundle = sleeping();
    for id in ["", "..", "a/b", "../x"] {
        assert!(matches!(bundle.runtime.create(id, &bundle.options()), Err(OciError::InvalidId(_))));
        assert!(matches!(bundle.runtime.delete(id, true), Err(OciError::InvalidId(_))));
    }
}
