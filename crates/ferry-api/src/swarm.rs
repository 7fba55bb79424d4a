//! What `info` says about a swarm. Everything else about swarms is not here yet.

use serde::{Deserialize, Serialize};

use crate::json::{List, is_zero};

/// `Swarm` of `info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SwarmInfo {
    /// Of this node, empty outside of a swarm.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Its address.
    pub node_addr: String,
    /// `inactive`, `pending`, `active`, `error` or `locked`.
    pub local_node_state: String,
    /// Whether it is a manager.
    pub control_available: bool,
    /// What is wrong.
    pub error: String,
    /// Other managers.
    pub remote_managers: List<SwarmPeer>,
    /// Nodes in the swarm.
    #[serde(skip_serializing_if = "is_zero")]
    pub nodes: i64,
    /// Managers in the swarm.
    #[serde(skip_serializing_if = "is_zero")]
    pub managers: i64,
}

impl Default for SwarmInfo {
    /// A node outside of any swarm.
    fn default() -> Self {
        Self {
            node_id: String::new(),
            node_addr: String::new(),
            local_node_state: "inactive".to_owned(),
            control_available: false,
            error: String::new(),
            remote_managers: List::default(),
            nodes: 0,
            managers: 0,
        }
    }
}

/// Another node of a swarm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SwarmPeer {
    /// Its id.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Its address.
    pub addr: String,
}
