//! Where entries must agree on who may answer: the kernel can tell answers by the service that was
//! asked and by the target that they come from, and what comes in directly by the target.

use std::collections::{HashMap, HashSet};

use crate::mapping::{Direct, Mapping, Service, User};

use super::entry::{Candidate, Entry};
use super::report::{Complaint, Report};
use super::value::ANY_USER;

/// Finds mappings that do not agree; `candidates` are sorted by service.
pub(super) fn check(entries: &[Entry], candidates: &[Candidate], report: &mut Report) {
    if entries.iter().all(|entry| entry.user.is_none() && entry.direct == Direct::Allow) {
        return;
    }
    let mut check = Agreement { entries, reported: HashSet::new(), report };
    check.identities(candidates);
    for group in candidates.chunk_by(|a, b| a.mapping.service == b.mapping.service) {
        check.users(group);
    }
    check.directs(candidates);
}

struct Agreement<'c> {
    entries: &'c [Entry],
    /// Pairs of entries whose conflict is reported: ranges conflict once, not at every port.
    reported: HashSet<(u32, u32)>,
    report: &'c mut Report,
}

/// The target, as others would use it directly.
fn target(m: &Mapping) -> Service {
    Service { port: m.to.port(), ..m.service }
}

impl Agreement<'_> {
    /// What is not translated cannot be told from what others do at the same port.
    fn identities(&mut self, candidates: &[Candidate]) {
        for Candidate { mapping: m, entry } in candidates {
            let is_identity = m.to.port() == m.service.port;
            if !is_identity || !self.reported.insert((*entry, *entry)) {
                continue;
            }
            let (key, instead) = match (&m.user, m.direct) {
                (Some(_), _) => ("user", ANY_USER),
                (None, Direct::Refuse) => ("direct", Direct::Allow.name()),
                (None, Direct::Allow) => continue,
            };
            let message = format!("`{key}` has no effect on {}, mapped to itself", m.service);
            let help = format!("remove it, or write `{key}: {instead}` against the defaults");
            let spot = self.entries[*entry as usize].spot;
            self.report.error(spot, Complaint::new(message).help(help));
        }
    }

    /// The mappings of one service.
    fn users(&mut self, group: &[Candidate]) {
        if group.len() < 2 {
            return;
        }
        let mut first: HashMap<_, &Candidate> = HashMap::new();
        for candidate in group {
            let m = &candidate.mapping;
            let earlier = *first.entry(m.to).or_insert(candidate);
            let (user, other) = (&m.user, &earlier.mapping.user);
            if user == other || !self.reported.insert((earlier.entry, candidate.entry)) {
                continue;
            }
            let name = |user: &Option<User>| match user {
                Some(user) => format!("`user: {user}`"),
                None => "no `user`".to_owned(),
            };
            let (service, to) = (m.service, m.to);
            let message = format!(
                "{service} -> {to} has {} here and {} before: answers from one target cannot be \
                 told apart",
                name(user),
                name(other)
            );
            let complaint = Complaint::new(message)
                .help("give both entries the same user, or different targets")
                .related(self.entries[earlier.entry as usize].spot, "the other one is here");
            self.report.error(self.entries[candidate.entry as usize].spot, complaint);
        }
    }

    /// A target is hidden from all or from nobody.
    fn directs(&mut self, candidates: &[Candidate]) {
        let open = candidates.iter().filter(|c| c.mapping.direct == Direct::Allow);
        let open: HashMap<_, _> = open.map(|c| (target(&c.mapping), c.entry)).collect();
        for Candidate { mapping: m, entry } in candidates {
            let Some(other) = open.get(&target(m)).filter(|_| m.direct == Direct::Refuse) else {
                continue;
            };
            if !self.reported.insert((*other, *entry)) {
                continue;
            }
            let target = target(m);
            let complaint = Complaint::new(format!(
                "`direct: refuse` for {target}, which another entry leaves open"
            ))
            .help("write `direct: refuse` in both, or choose another target for one of them")
            .related(self.entries[*other as usize].to_spot, format!("{target} is left open here"));
            self.report.error(self.entries[*entry as usize].to_spot, complaint);
        }
    }
}
