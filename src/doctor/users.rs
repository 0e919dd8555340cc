//! Mappings that only a socket of one user may answer.

use std::net::IpAddr;

use super::around::Facts;
use super::finding::{Code, Finding, Severity};
use super::holder::{Holder, listed};
use super::reach::{self, From, Missing};
use crate::host::listeners::Listener;
use crate::host::user::Standing;
use crate::mapping::words::Run;
use crate::mapping::{Mapping, User};

/// What is wrong with the user of a mapping. Equal for neighbouring mappings with the same user, if
/// the same others listen at their targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Who listens at the target instead, and where it is they who would answer.
    strangers: Option<(Vec<Holder>, Missing)>,
    standing: Option<Standing>,
}

/// Whether those who would answer on this path are all of another user than the mapping's, so that
/// their answers are dropped.
pub fn is_strange(path: (From, IpAddr), mapping: &Mapping, facts: &Facts) -> bool {
    let Some(user) = &mapping.user else { return false };
    let answering = reach::answering(path, mapping, facts);
    !answering.is_empty() && answering.iter().all(|listener| listener.uid != user.uid.get())
}

impl Users {
    pub fn of(mapping: &Mapping, facts: &Facts) -> Self {
        let Some(user) = &mapping.user else { return Self::default() };
        let paths = reach::paths(mapping, &facts.interfaces);
        let strange: Vec<_> =
            paths.into_iter().filter(|path| is_strange(*path, mapping, facts)).collect();
        Self {
            strangers: strangers(&strange, mapping, facts),
            standing: facts.users.get(user).filter(|s| **s != Standing::Known).cloned(),
        }
    }

    pub fn findings(&self, run: &Run<'_>) -> Vec<Finding> {
        let Some(user) = &run.first.user else { return Vec::new() };
        let strangers = self.strangers.iter().map(|strangers| wrong_user(run, user, strangers));
        let standing = self.standing.iter().filter_map(|s| no_such_user(run, user, s));
        strangers.chain(standing).collect()
    }
}

fn strangers(
    paths: &[(From, IpAddr)],
    mapping: &Mapping,
    facts: &Facts,
) -> Option<(Vec<Holder>, Missing)> {
    if paths.is_empty() {
        return None;
    }
    let mut listeners: Vec<&Listener> =
        paths.iter().flat_map(|path| reach::answering(*path, mapping, facts)).collect();
    listeners.sort_by_key(|l| (l.inode, l.address));
    listeners.dedup();
    let outside = paths.iter().any(|(from, _)| *from == From::Outside);
    let mut addresses: Vec<_> = paths.iter().map(|(_, address)| *address).collect();
    addresses.sort();
    addresses.dedup();
    Some((Holder::of(listeners), Missing { outside, addresses }))
}

fn wrong_user(run: &Run<'_>, user: &User, (holders, missing): &(Vec<Holder>, Missing)) -> Finding {
    let (service, target) = (run.service(), run.target());
    let summary =
        format!("{} listens on {target}, and only {user} may answer {service}", listed(holders));
    let mut names: Vec<_> = holders.iter().map(Holder::user).collect();
    names.dedup();
    let finding = Finding::new(Code::WrongUser, Severity::Error, summary)
        .because(format!(
            "its answers are dropped, and clients get no answer and time out ({})",
            missing.in_words()
        ))
        .advice(format!(
            "start the program as {user}: what counts is who opened its socket, so it is too late \
             if it begins as root and changes its user"
        ));
    let finding = match names.as_slice() {
        [name] => finding.advice(format!(
            "write another `user` in the rules file if {name} is the one who is meant"
        )),
        _ => finding,
    };
    finding
        .evidence("to", run.to())
        .evidence("user", user.to_string())
        .evidence("uid", user.uid.get())
        .evidence("missing", missing.to_json())
        .listeners(holders)
}

fn no_such_user(run: &Run<'_>, user: &User, standing: &Standing) -> Option<Finding> {
    let service = run.service();
    let uid = user.uid;
    let only = format!("only a socket of user number {uid} may answer {service}");
    let (summary, detail) = match standing {
        Standing::Known => return None,
        Standing::Gone { now: None } => {
            (format!("this host has no user {user}"), format!("{only}, and nobody has that number"))
        }
        Standing::Gone { now: Some(name) } => {
            (format!("this host has no user {user}"), format!("{only}, which is {name} now"))
        }
        Standing::Renumbered(now) => (
            format!("the user {user} has the number {now} now, and not {uid}"),
            format!("{only}, which was {user} when it was mapped"),
        ),
    };
    let finding = Finding::new(Code::NoSuchUser, Severity::Warning, summary)
        .because(detail)
        .evidence("user", user.to_string())
        .evidence("uid", uid.get());
    Some(match standing {
        Standing::Renumbered(_) => finding.advice(
            "apply the rules file again, so that the new number counts: `portmap apply FILE`",
        ),
        _ => finding
            .advice("name a user of this host under `user` in the rules file")
            .command("see what users there are", "getent passwd"),
    })
}
