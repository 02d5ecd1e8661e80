//! What the active controller remembers of brokers' heartbeats. It is not in the log: a new controller starts over and gives
//! every broker a whole session.

use std::collections::BTreeMap;

use crate::ids::{BrokerEpoch, BrokerId, Mono, Offset};
use crate::metadata::image::MetadataImage;
use crate::metadata::records::MetadataRecord;

#[derive(Clone, Debug)]
struct Session {
    epoch: BrokerEpoch,
    /// The last heartbeat of this epoch; a broker that never sent one has no session that could end.
    last_contact: Option<Mono>,
    /// Up to where the broker has applied the metadata log.
    metadata_offset: Offset,
    /// Where its registration is: the broker may serve once it has applied that.
    registration_offset: Offset,
    /// Where its controlled shutdown was recorded: it may stop once all active brokers have applied that.
    shutdown_offset: Option<Offset>,
}

/// The sessions of all registered brokers.
#[derive(Clone, Debug)]
pub struct Sessions {
    brokers: BTreeMap<BrokerId, Session>,
    timeout_ms: i64,
}

impl Sessions {
    /// Sessions of the brokers in an image, those of unfenced ones begin now. `timeout_ms` is
    /// `broker.session.timeout.ms`. The broker of this very node has none: its last life ended before this process could
    /// lock the node's directories, so that its next one need not wait, as it does in Kafka.
    pub fn new(image: &MetadataImage, node_id: BrokerId, timeout_ms: i64, now: Mono) -> Self {
        let session = |broker: &std::sync::Arc<crate::metadata::records::RegisterBrokerRecord>| Session {
            epoch: BrokerEpoch(broker.broker_epoch),
            last_contact: Some(now).filter(|_| !broker.fenced && broker.broker_id != node_id.0),
            metadata_offset: Offset::NONE,
            registration_offset: image.provenance.offset,
            shutdown_offset: None,
        };
        Sessions {
            brokers: image
                .brokers
                .iter()
                .map(|(id, broker)| (*id, session(broker)))
                .collect(),
            timeout_ms,
        }
    }

    /// Keeps up with a record that the controller wrote at `offset`.
    pub(super) fn note(&mut self, record: &MetadataRecord, offset: Offset) {
        match record {
            MetadataRecord::RegisterBroker(broker) => {
                let id = BrokerId(broker.broker_id);
                let epoch = BrokerEpoch(broker.broker_epoch);
                let same = self.brokers.get(&id).filter(|session| session.epoch == epoch);
                let session = Session {
                    epoch,
                    last_contact: same.and_then(|session| session.last_contact),
                    metadata_offset: Offset::NONE,
                    registration_offset: offset,
                    shutdown_offset: same.and_then(|session| session.shutdown_offset),
                };
                self.brokers.insert(id, session);
            }
            MetadataRecord::UnregisterBroker(broker) => {
                self.brokers.remove(&BrokerId(broker.broker_id));
            }
            MetadataRecord::BrokerRegistrationChange(change) if change.fenced == 1 => {
                // A fenced broker is no longer waited for, and shuts down when it says so.
                if let Some(session) = self.brokers.get_mut(&BrokerId(change.broker_id)) {
                    session.shutdown_offset = None;
                    session.last_contact = None;
                }
            }
            _ => {}
        }
    }

    /// A heartbeat of the broker's present epoch, which has applied the log up to `metadata_offset`.
    pub(super) fn touch(&mut self, id: BrokerId, metadata_offset: Offset, now: Mono) {
        if let Some(session) = self.brokers.get_mut(&id) {
            session.last_contact = Some(now);
            session.metadata_offset = metadata_offset;
        }
    }

    /// True while the broker's session lasts.
    pub(super) fn is_valid(&self, id: BrokerId, now: Mono) -> bool {
        let session = self.brokers.get(&id);
        let contact = session.and_then(|session| session.last_contact);
        contact.is_some_and(|contact| now <= contact.plus_ms(self.timeout_ms))
    }

    /// True when a broker that has applied the log up to `offset` knows of its own registration.
    pub(super) fn has_caught_up(&self, id: BrokerId, offset: Offset) -> bool {
        self.brokers
            .get(&id)
            .is_some_and(|session| offset >= session.registration_offset)
    }

    /// Where the broker's controlled shutdown was recorded, while it is under way.
    pub(super) fn shutdown_offset(&self, id: BrokerId) -> Option<Offset> {
        self.brokers.get(&id)?.shutdown_offset
    }

    /// The broker's controlled shutdown was recorded at `offset`; later calls change nothing.
    pub(super) fn begin_shutdown(&mut self, id: BrokerId, offset: Offset) {
        if let Some(session) = self.brokers.get_mut(&id) {
            session.shutdown_offset.get_or_insert(offset);
        }
    }

    /// Up to where all active brokers have applied the log.
    pub(super) fn lowest_active_offset(&self, image: &MetadataImage) -> Offset {
        let active = self.brokers.iter().filter(|(id, session)| {
            session.shutdown_offset.is_none() && image.broker(**id).is_some_and(|broker| !broker.fenced)
        });
        let lowest = active.map(|(_, session)| session.metadata_offset).min();
        lowest.unwrap_or(Offset(i64::MAX))
    }

    /// The broker whose session ended first.
    pub(super) fn first_expired(&self, now: Mono) -> Option<BrokerId> {
        let ended = |session: &Session| {
            session
                .last_contact
                .filter(|contact| now > contact.plus_ms(self.timeout_ms))
        };
        self.brokers
            .iter()
            .filter_map(|(id, session)| Some((ended(session)?, *id)))
            .min()
            .map(|(_, id)| id)
    }

    /// Forgets that there was a session.
    pub(super) fn end(&mut self, id: BrokerId) {
        if let Some(session) = self.brokers.get_mut(&id) {
            session.last_contact = None;
        }
    }

    /// When the first session will have ended.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let contacts = self.brokers.values().filter_map(|session| session.last_contact);
        contacts
            .map(|contact| Mono(contact.plus_ms(self.timeout_ms).0.saturating_add(1)))
            .min()
    }
}
