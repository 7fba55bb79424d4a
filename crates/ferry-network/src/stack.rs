//! One engine's share of the host's network: the nft table, host ports, and the background threads.

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ferry_sys::netlink::{Protocol, Socket};

use crate::config::StackConfig;
use crate::endpoint::Sandbox;
use crate::error::NetworkError;
use crate::fault::Faults;
use crate::firewall::Firewall;
use crate::firewall::{obstacles, watch::Watcher};
use crate::links::{LinkNews, LinkWatcher};
use crate::ports::Ports;
use crate::sandbox::{self, Maker, Pool};
use crate::worker::Worker;

/// One engine's nft table and background threads. Cheap to clone; the threads end with the last clone,
/// tables, bridges and running containers' endpoints stay.
#[derive(Debug, Clone)]
pub struct NetworkStack {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: StackConfig,
    pub(crate) firewall: Arc<Mutex<Firewall>>,
    /// rtnetlink in the host's namespace.
    pub(crate) route: Mutex<Socket>,
    pub(crate) ports: Ports,
    pub(crate) worker: Worker,
    pub(crate) maker: Maker,
    /// Sandboxes on no bridge yet, without IPv6 and with it.
    pub(crate) spare: [OnceLock<Arc<Pool>>; 2],
    pub(crate) faults: Faults,
    watcher: Mutex<Option<Watcher>>,
    links: Mutex<Option<LinkWatcher>>,
}

impl NetworkStack {
    /// Opens sockets and starts the threads in the network namespace of the calling thread. The table
    /// is made with the first bridge.
    ///
    /// # Errors
    /// When netlink refuses, e.g. for lack of CAP_NET_ADMIN.
    pub fn open(config: StackConfig) -> Result<Self, NetworkError> {
        let failed = |action| {
            let object = config.table_name.clone();
            move |source| NetworkError::Kernel { action, object, source }
        };
        if config.table_name.is_empty() || config.table_name.len() > 255 {
            return Err(NetworkError::InvalidConfig {
                bridge: config.table_name.clone(),
                reason: "the nft table needs a name of 1 to 255 bytes".to_owned(),
            });
        }
        let firewall = Firewall::open(&config.table_name, &config.firewall)
            .map_err(|e| failed("open the firewall of")(e.into()))?;
        let firewall = Arc::new(Mutex::new(firewall));
        let route = Socket::open(Protocol::Route).map_err(failed("open rtnetlink for"))?;
        let worker = Worker::start().map_err(failed("start the network worker of"))?;
        let maker = Maker::start().map_err(failed("start the sandbox maker of"))?;
        let watcher = Watcher::start(&config.table_name, Arc::clone(&firewall))
            .map_err(failed("start the ruleset watcher of"))?;
        let inner = Inner {
            config,
            firewall,
            route: Mutex::new(route),
            ports: Ports::new(ephemeral_range()),
            worker,
            maker,
            spare: Default::default(),
            faults: Faults::default(),
            watcher: Mutex::new(watcher),
            links: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Begins to take note of links of the host that are deleted, for [`NetworkStack::watch_links`].
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn link_news(&self) -> Result<LinkNews, NetworkError> {
        LinkNews::open().map_err(|e| self.watching(e))
    }

    /// Calls `deleted` with the interface indices of links of the host that were deleted since `news` began, some time
    /// afterwards, and as long as the stack is there.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn watch_links(
        &self,
        news: LinkNews,
        deleted: impl FnMut(&[u32]) + Send + 'static,
    ) -> Result<(), NetworkError> {
        let watcher = LinkWatcher::start(news, deleted).map_err(|e| self.watching(e))?;
        *self.inner.links.lock().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
        Ok(())
    }

    fn watching(&self, source: std::io::Error) -> NetworkError {
        let object = self.inner.config.table_name.clone();
        NetworkError::Kernel { action: "watch the links of", object, source }
    }

    /// A namespace with nothing but `lo`, up (`--network none`).
    ///
    /// # Errors
    /// When the kernel has no room for another namespace.
    pub fn isolated_sandbox(&self) -> Result<Sandbox, NetworkError> {
        sandbox::isolated()
    }

    /// Opens several bridges and writes the rules of all at once: what is in force from before, of bridges that are opened
    /// later than others, stays in force meanwhile.
    ///
    /// # Errors
    /// Those of `open`, and when netlink refuses the rules.
    pub fn open_together<T, E: From<NetworkError>>(
        &self,
        open: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.inner.firewall().defer();
        let opened = open();
        let written = self.inner.firewall().write_deferred();
        let opened = opened?;
        written.map_err(|e| NetworkError::Kernel {
            action: "write nft table",
            object: self.inner.config.table_name.clone(),
            source: e.into(),
        })?;
        Ok(opened)
    }

    /// What its rules are made of: `nftables`, `iptables` or `none`.
    pub fn firewall_driver(&self) -> &'static str {
        self.inner.firewall().driver()
    }

    /// What of others' rules keeps containers behind a bridge from the outside, a sentence each. Reads, changes nothing.
    pub fn obstacles(&self, bridge: &str) -> Vec<String> {
        obstacles::find(&self.inner.config.table_name, bridge)
    }

    /// Deletes the table; the stack is of no use afterwards. Bridges are to be destroyed first.
    ///
    /// # Errors
    /// When netlink refuses.
    pub fn destroy(&self) -> Result<(), NetworkError> {
        drop(self.inner.watcher.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.inner.firewall().destroy().map_err(|e| NetworkError::Kernel {
            action: "delete nft table",
            object: self.inner.config.table_name.clone(),
            source: e.into(),
        })
    }
}

impl Inner {
    /// Each holder leaves it consistent at every point where it could panic.
    pub(crate) fn firewall(&self) -> MutexGuard<'_, Firewall> {
        self.firewall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn route(&self) -> MutexGuard<'_, Socket> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `net.ipv4.ip_local_port_range` (ip(7)), or its default.
fn ephemeral_range() -> (u16, u16) {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_ascii_whitespace().map_while(|n| n.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if 0 < first && first <= last => (first, last),
        _ => (32768, 60999),
    }
}
