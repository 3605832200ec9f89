//! A reserved address: its record. What the address is depends on the hosts; the record has its place among them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Action, ActionState, Cloud, ResourceKind};

/// Reserved addresses of one account, as DigitalOcean documents its default
/// (docs.digitalocean.com/products/networking/reserved-ips/details/limits).
pub(crate) const RESERVED_IPS_MAX: u32 = 3;

/// A reserved address as it survives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReservedIp {
    /// A number of its own: actions with a lower one are of an earlier reservation of the address.
    pub(crate) id: u64,
    pub(crate) region: String,
    #[serde(default)]
    pub(crate) created_at: String,
    /// The droplet that it leads to.
    pub(crate) droplet: Option<u64>,
}

impl Cloud {
    /// The lowest place that is free.
    pub(crate) fn new_reserved_slot(&self) -> Option<u32> {
        (0..RESERVED_IPS_MAX).find(|slot| !self.records.reserved_ips.contains_key(slot))
    }

    /// Leads an address to a droplet or nowhere. The action is shown as the real one shows it first; what it says has come about when
    /// the state is kept.
    pub(crate) fn reserved_ip_lead(&mut self, lead: &Lead<'_>) -> Action {
        let mut region = None;
        if let Some(reserved) = self.records.reserved_ips.get_mut(&lead.slot) {
            reserved.droplet = lead.to;
            region = Some(reserved.region.clone());
        }
        let kind = if lead.to.is_some() {
            "assign_ip"
        } else {
            "unassign_ip"
        };
        let resource = (ResourceKind::ReservedIp, resource_id(lead.ip));
        let begun = self.action_start(kind, resource, lead.now);
        let begun = Action {
            region: region.unwrap_or_else(|| begun.region.clone()),
            ..begun
        };
        let ended = Action {
            state: ActionState::Completed,
            completed_at: Some(lead.now.to_owned()),
            ..begun.clone()
        };
        self.records.actions.insert(ended.id, Arc::new(ended));
        begun
    }

    /// Addresses that led to a droplet that is gone lead nowhere.
    pub(super) fn reserved_ips_forget_droplet(&mut self, id: u64) {
        for reserved in self.records.reserved_ips.values_mut() {
            reserved.droplet = reserved.droplet.filter(|droplet| *droplet != id);
        }
    }
}

/// Where an address is to lead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lead<'a> {
    pub(crate) slot: u32,
    pub(crate) ip: Ipv4Addr,
    /// None: nowhere.
    pub(crate) to: Option<u64>,
    pub(crate) now: &'a str,
}

/// How actions name the address.
pub(crate) fn resource_id(ip: Ipv4Addr) -> u64 {
    ip.to_bits().into()
}
