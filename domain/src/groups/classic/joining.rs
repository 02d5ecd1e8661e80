//! JoinGroup, and the rebalance from its cause to the new generation.

use std::fmt::Arguments;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;

use super::{ClassicGroup, InitialDelay, Member, Phase, Protocols, Session};
use crate::coordinator::Token;
use crate::error::ErrorCode;
use crate::groups::commands::{JoinGroup, Joined, JoinedMember, Reply, Synced};
use crate::groups::context::{Context, fit_in_a_batch, new_member_id};
use crate::groups::events::{ClientReason, News, Protocol, Removal, Shown};
use crate::groups::settings::GroupSettings;

/// A new member waits this long for its first generation. It cannot send heartbeats, and a client that has given up meanwhile
/// would come again as yet another member (`GroupCoordinatorConfig.CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS`).
const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1000;

/// How long to wait at least for static members that are all silent: clients choose the rebalance timeout.
const SILENT_MEMBERS_WAIT_MIN_MS: i64 = 100;

impl ClassicGroup {
    /// What is wrong with a JoinGroup whatever the group is; to be asked before a group is made for it: INVALID_GROUP_ID,
    /// INVALID_SESSION_TIMEOUT (`group.min.session.timeout.ms`, `group.max.session.timeout.ms`).
    pub fn check_join(settings: &GroupSettings, request: &JoinGroup) -> Result<(), ErrorCode> {
        let allowed_ms = settings.min_session_timeout_ms..=settings.max_session_timeout_ms;
        if request.group_id.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else if !allowed_ms.contains(&request.session_timeout_ms) {
            Err(ErrorCode::InvalidSessionTimeout)
        } else {
            Ok(())
        }
    }

    /// A member joins or joins again; [`ClassicGroup::check_join`] has let it through.
    pub fn join(&mut self, ctx: &mut Context<'_>, request: JoinGroup, token: Token) {
        if !self.is_recorded {
            // As in Kafka, so that a group that somebody was told of outlives a failover.
            let record = self.to_record();
            if !fit_in_a_batch(slice::from_ref(&record), ctx.settings.record_max_bytes) {
                return refuse_join(ctx, token, ErrorCode::UnknownServerError, "".into());
            }
            self.write(ctx, record);
        }
        let protocols = Protocols::new(&request.protocols);
        let is_unknown = request.member_id.is_empty();
        if !self.has_room_for(ctx, &request.member_id) {
            self.remove_pending(ctx, &request.member_id);
            self.remove_member(ctx, &request.member_id);
            refuse_join(ctx, token, ErrorCode::GroupMaxSizeReached, "".into());
            self.maybe_complete_join(ctx);
        } else if !self.supports(&request.protocol_type, &protocols) {
            refuse_join(ctx, token, ErrorCode::InconsistentGroupProtocol, request.member_id);
        } else if is_unknown {
            self.join_unknown(ctx, &request, protocols, token);
        } else {
            self.join_known(ctx, &request, protocols, token);
        }
    }

    /// `group.max.size` counts members, and in a rebalance those that have joined: so the last to come are turned away where
    /// the limit was lowered.
    fn has_room_for(&self, ctx: &Context<'_>, member_id: &str) -> bool {
        let member = self.members.get(member_id);
        match self.phase {
            Phase::Empty => true,
            Phase::PreparingRebalance(_) => {
                member.is_some_and(Member::is_joining) || self.members.joining_count() < ctx.settings.max_size
            }
            Phase::CompletingRebalance | Phase::Stable => {
                member.is_some() || self.members.len() < ctx.settings.max_size
            }
        }
    }

    fn supports(&self, protocol_type: &str, protocols: &Protocols) -> bool {
        if self.phase == Phase::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.generation.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| self.members.support(name))
    }

    fn join_unknown(&mut self, ctx: &mut Context<'_>, request: &JoinGroup, protocols: Protocols, token: Token) {
        let instance = request.group_instance_id.as_ref();
        let member_id = new_member_id(instance.unwrap_or(&request.client_id), ctx.entropy);
        if i16::try_from(member_id.len()).is_err() {
            // Neither an answer nor a record could hold it.
            refuse_join(ctx, token, ErrorCode::UnknownServerError, "".into());
        } else if let Some(former) = instance.and_then(|instance| self.members.static_id(instance)).cloned() {
            self.replace_static(ctx, request, protocols, &former, member_id, token);
        } else if instance.is_none() && request.requires_known_member_id {
            if !self.pending.insert(member_id.clone()) {
                // Clients try again after this one.
                return refuse_join(ctx, token, ErrorCode::CoordinatorLoadInProgress, "".into());
            }
            ctx.set_timer(self.member_timer(&member_id), i64::from(request.session_timeout_ms));
            refuse_join(ctx, token, ErrorCode::MemberIdRequired, member_id);
        } else {
            self.add_member(ctx, request, protocols, member_id, token);
        }
    }

    fn join_known(&mut self, ctx: &mut Context<'_>, request: &JoinGroup, protocols: Protocols, token: Token) {
        let member_id = &request.member_id;
        if request.group_instance_id.is_none() && self.remove_pending(ctx, member_id) {
            return self.add_member(ctx, request, protocols, member_id.clone(), token);
        }
        let member = match self.check_member(member_id, request.group_instance_id.as_ref()) {
            Ok(member) => member,
            Err(error) => return refuse_join(ctx, token, error, member_id.clone()),
        };
        let is_unchanged = member.protocols == protocols;
        let is_leader = self.is_leader(member_id);
        match self.phase {
            // The answer to its JoinGroup may have been lost.
            Phase::CompletingRebalance if is_unchanged => self.reply_joined(ctx, member_id, token),
            // A leader that joins again asks for a rebalance, say because topics have changed; a follower is told where it is.
            Phase::Stable if is_unchanged && !is_leader => self.reply_joined(ctx, member_id, token),
            _ => {
                let what = if is_unchanged {
                    "leader"
                } else {
                    "member with other metadata,"
                };
                self.update_member(ctx, request, protocols, member_id, token);
                let (member_id, reason) = (Shown(member_id), client_reason(request));
                self.rebalance_or_complete_join(ctx, format_args!("{what} {member_id} joins again{reason}"));
            }
        }
    }

    fn add_member(
        &mut self,
        ctx: &mut Context<'_>,
        request: &JoinGroup,
        protocols: Protocols,
        member_id: Arc<str>,
        token: Token,
    ) {
        if let Phase::PreparingRebalance(Some(initial)) = &mut self.phase {
            initial.has_new_member = true;
        }
        if self.members.is_empty() {
            self.generation.protocol_type = Some(request.protocol_type.clone());
        }
        self.generation.leader.get_or_insert_with(|| member_id.clone());
        ctx.set_timer(self.member_timer(&member_id), NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.members.insert(Member {
            member_id: member_id.clone(),
            group_instance_id: request.group_instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols,
            assignment: Bytes::new(),
            session: Session::of_new_member(),
        });
        self.members.join(&member_id, token);
        let news = News::Joined {
            member_id: member_id.clone(),
            instance_id: request.group_instance_id.clone(),
            protocol: Protocol::Classic,
        };
        ctx.tell(&self.group_id, news);
        let (member_id, reason) = (Shown(&member_id), client_reason(request));
        self.rebalance_or_complete_join(ctx, format_args!("member {member_id} joins{reason}"));
    }

    /// Takes over what a member says of itself; it waits in this request from now on, and no longer in an earlier one.
    fn update_member(
        &mut self,
        ctx: &mut Context<'_>,
        request: &JoinGroup,
        protocols: Protocols,
        member_id: &Arc<str>,
        token: Token,
    ) {
        self.members.update(
            member_id,
            protocols,
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
        );
        if let Some(earlier) = self.members.join(member_id, token) {
            refuse_join(ctx, earlier, ErrorCode::RebalanceInProgress, member_id.clone());
        }
    }

    /// A static member came back without its id (KIP-345): whoever had the id is fenced. A stable group stays stable if it
    /// would choose the same protocol.
    fn replace_static(
        &mut self,
        ctx: &mut Context<'_>,
        request: &JoinGroup,
        protocols: Protocols,
        former_id: &Arc<str>,
        member_id: Arc<str>,
        token: Token,
    ) {
        let Some(former) = self.members.rename(former_id, member_id.clone()) else {
            return refuse_join(ctx, token, ErrorCode::UnknownMemberId, member_id);
        };
        self.members.update(
            &member_id,
            protocols,
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
        );
        let former_leader = self.generation.leader.clone();
        if self.is_leader(former_id) {
            self.generation.leader = Some(member_id.clone());
        }

        let keeps_generation =
            self.phase == Phase::Stable && self.members.elect_protocol() == self.generation.protocol_name;
        if keeps_generation {
            let record = self.to_record();
            if !fit_in_a_batch(slice::from_ref(&record), ctx.settings.record_max_bytes) {
                self.members.remove(&member_id);
                self.members.insert(former);
                self.generation.leader = former_leader;
                return refuse_join(ctx, token, ErrorCode::UnknownServerError, "".into());
            }
            self.write(ctx, record);
        }

        if let Some(instance_id) = &former.group_instance_id {
            let news = News::Replaced {
                instance_id: instance_id.clone(),
                former_id: former_id.clone(),
                member_id: member_id.clone(),
            };
            ctx.tell(&self.group_id, news);
        }
        ctx.timers.cancel(&self.member_timer(former_id));
        if let Some(token) = former.session.joining {
            refuse_join(ctx, token, ErrorCode::FencedInstanceId, former_id.clone());
        }
        if let Some(token) = former.session.syncing {
            ctx.reply(token, Reply::SyncGroup(Synced::refused(ErrorCode::FencedInstanceId)));
        }
        ctx.set_timer(self.member_timer(&member_id), i64::from(request.session_timeout_ms));

        if !keeps_generation {
            self.members.join(&member_id, token);
            let (member_id, reason) = (Shown(&member_id), client_reason(request));
            self.rebalance_or_complete_join(ctx, format_args!("static member {member_id} came back{reason}"));
        } else if request.supports_skipping_assignment {
            let mut joined = self.joined(&member_id);
            joined.skip_assignment = self.is_leader(&member_id);
            ctx.reply(token, Reply::JoinGroup(joined));
        } else {
            // Under its former id the leader does not recognise itself, so that it takes its assignment as a follower.
            let joined = Joined {
                leader: former_leader.unwrap_or_default(),
                members: Vec::new(),
                ..self.joined(&member_id)
            };
            ctx.reply(token, Reply::JoinGroup(joined));
        }
    }

    fn rebalance_or_complete_join(&mut self, ctx: &mut Context<'_>, reason: Arguments<'_>) {
        if matches!(self.phase, Phase::PreparingRebalance(_)) {
            self.maybe_complete_join(ctx);
        } else {
            self.prepare_rebalance(ctx, reason);
        }
    }

    /// Completes the joining if all members have joined; the first rebalance of a group waits its delay out.
    pub(super) fn maybe_complete_join(&mut self, ctx: &mut Context<'_>) {
        if self.phase == Phase::PreparingRebalance(None) && self.have_all_joined() {
            self.complete_join(ctx);
        }
    }

    pub(super) fn have_all_joined(&self) -> bool {
        self.members.joining_count() == self.members.len() && self.pending.ids.is_empty()
    }

    /// Asks all members to join again, for a reason that operators are told. Not for a group that is asking already.
    pub fn prepare_rebalance(&mut self, ctx: &mut Context<'_>, reason: Arguments<'_>) {
        let news = News::Rebalancing {
            from: self.state(),
            generation_id: self.generation.id,
            reason: reason.to_string(),
        };
        ctx.tell(&self.group_id, news);
        if self.phase == Phase::CompletingRebalance {
            self.members.assign(|_| Bytes::new());
            self.answer_syncs(ctx, ErrorCode::RebalanceInProgress);
        }
        self.members.forgive_syncs();
        ctx.timers.cancel(&self.sync_timer());
        let timeout_ms = self.members.rebalance_timeout_ms();
        if self.phase == Phase::Empty {
            let delay_ms = ctx.settings.initial_rebalance_delay_ms;
            let initial = InitialDelay {
                delay_ms,
                remaining_ms: timeout_ms.saturating_sub(delay_ms).max(0),
                has_new_member: false,
            };
            self.enter(ctx.now, Phase::PreparingRebalance(Some(initial)));
            ctx.set_timer(self.join_timer(), i64::from(delay_ms));
            return;
        }
        self.enter(ctx.now, Phase::PreparingRebalance(None));
        if self.have_all_joined() {
            self.complete_join(ctx);
        } else {
            ctx.set_timer(self.join_timer(), i64::from(timeout_ms));
        }
    }

    /// The time for joining is over.
    pub(super) fn end_joining(&mut self, ctx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::PreparingRebalance(Some(initial)) if initial.has_new_member && initial.remaining_ms > 0 => {
                let delay_ms = ctx.settings.initial_rebalance_delay_ms.min(initial.remaining_ms);
                *initial = InitialDelay {
                    delay_ms,
                    remaining_ms: initial.remaining_ms.saturating_sub(initial.delay_ms).max(0),
                    has_new_member: false,
                };
                ctx.set_timer(self.join_timer(), i64::from(delay_ms));
            }
            Phase::PreparingRebalance(_) => self.complete_join(ctx),
            _ => (),
        }
    }

    /// Goes on with those that have joined, and with the static members, whose sessions decide about them.
    pub(super) fn complete_join(&mut self, ctx: &mut Context<'_>) {
        ctx.timers.cancel(&self.join_timer());
        if self.members.joining_count() < self.members.len() {
            let late = self
                .members
                .iter()
                .filter(|member| !member.is_joining() && member.group_instance_id.is_none());
            let late: Vec<_> = late.map(|member| member.member_id.clone()).collect();
            if !late.is_empty() {
                ctx.tell(&self.group_id, News::Removed(Removal::RebalanceTimeout, late.clone()));
            }
            for member_id in late {
                self.remove_member(ctx, &member_id);
            }
        }
        if !self.elect_leader(ctx) && !self.members.is_empty() {
            ctx.tell(&self.group_id, News::NobodyJoined);
            // Static members that are all silent: wait until one comes or their sessions end.
            if let Phase::PreparingRebalance(Some(initial)) = &mut self.phase {
                initial.remaining_ms = 0;
            }
            let timeout_ms = i64::from(self.members.rebalance_timeout_ms());
            return ctx.set_timer(self.join_timer(), timeout_ms.max(SILENT_MEMBERS_WAIT_MIN_MS));
        }

        self.generation.id = self.generation.id.checked_add(1).unwrap_or(1);
        self.generation.protocol_name = self.members.elect_protocol();
        if self.members.is_empty() {
            self.enter(ctx.now, Phase::Empty);
            let generation_id = self.generation.id;
            ctx.tell(&self.group_id, News::Empty { generation_id });
            let record = self.to_record();
            // Without the record the last stable generation comes back after a failover, and its sessions end.
            if fit_in_a_batch(slice::from_ref(&record), ctx.settings.record_max_bytes) {
                self.write(ctx, record);
            }
            return;
        }
        self.enter(ctx.now, Phase::CompletingRebalance);
        let news = News::Generation {
            id: self.generation.id,
            members: self.members.len(),
        };
        ctx.tell(&self.group_id, news);
        for waiting in self.members.begin_generation() {
            ctx.set_timer(
                self.member_timer(&waiting.member_id),
                i64::from(waiting.session_timeout_ms),
            );
            if let Some(token) = waiting.token {
                self.reply_joined(ctx, &waiting.member_id, token);
            }
        }
        let timeout_ms = self.members.rebalance_timeout_ms();
        ctx.set_timer(self.sync_timer(), i64::from(timeout_ms));
    }

    /// Keeps the leader if it has joined, else takes the first member that has. False when none has.
    fn elect_leader(&mut self, ctx: &mut Context<'_>) -> bool {
        let leader = self
            .generation
            .leader
            .as_ref()
            .and_then(|leader| self.members.get(leader));
        if leader.is_some_and(Member::is_joining) {
            return true;
        }
        let joined = self.members.iter().find(|member| member.is_joining());
        let joined = joined.map(|member| member.member_id.clone());
        let is_elected = joined.is_some();
        if is_elected {
            self.set_leader(ctx, joined);
        }
        is_elected
    }

    fn reply_joined(&self, ctx: &mut Context<'_>, member_id: &Arc<str>, token: Token) {
        ctx.reply(token, Reply::JoinGroup(self.joined(member_id)));
    }

    /// The generation as a member sees it: with all members if it leads.
    fn joined(&self, member_id: &Arc<str>) -> Joined {
        let protocol_name = self.generation.protocol_name.clone();
        let seen = |member: &Member| JoinedMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            metadata: protocol_name
                .as_ref()
                .and_then(|name| member.protocols.metadata(name).cloned())
                .unwrap_or_default(),
        };
        let members = if self.is_leader(member_id) {
            self.members.iter().map(seen).collect()
        } else {
            Vec::new()
        };
        Joined {
            error: ErrorCode::None,
            generation_id: self.generation.id,
            protocol_type: self.generation.protocol_type.clone(),
            protocol_name,
            leader: self.generation.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.clone(),
            members,
        }
    }
}

/// Why the member says that it joins, behind a reason of ours.
fn client_reason(request: &JoinGroup) -> String {
    ClientReason::of(request.reason.as_deref()).map_or_else(String::new, |reason| reason.to_string())
}

fn refuse_join(ctx: &mut Context<'_>, token: Token, error: ErrorCode, member_id: Arc<str>) {
    ctx.reply(token, Reply::JoinGroup(Joined::refused(error, member_id)));
}
