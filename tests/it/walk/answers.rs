//! Who answers, by what is mapped, what was done to the table, and the rules of others.

use portmap::mapping::{MappingSet, Protocol, Service};

use super::edits::is_plain;
use super::model::{Damage, Model};
use super::rules::{Side, TARGETS, is_hidden, target};

/// A table of somebody else, which nothing that portmap does may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Other {
    #[default]
    None,
    /// It does nothing to anybody.
    Idle,
    /// It takes all that ask for 80/tcp to a server of its own, before portmap sees them.
    Takes,
    /// It refuses all that come to the first target, by whatever way.
    Refuses,
}

/// Where [`Other::Takes`] leads, and who listens there.
pub const TAKEN: (u16, &str) = (3003, "c");

impl Other {
    /// For `nft -f`.
    pub fn script(self) -> String {
        let (to, _) = TAKEN;
        let refused = TARGETS[0].0;
        let more = match self {
            Other::None => return "delete table inet other".to_owned(),
            Other::Idle => String::new(),
            Other::Takes => ["prerouting", "output"]
                .map(|hook| {
                    format!(
                        "chain {hook} {{ type nat hook {hook} priority -150; \
                         tcp dport 80 redirect to :{to}; }}; "
                    )
                })
                .concat(),
            Other::Refuses => format!(
                "chain refusals {{ type filter hook input priority 10; \
                 meta l4proto {{ tcp, udp }} th dport {refused} reject; }}; "
            ),
        };
        format!(
            "table inet other {{ {more}chain input {{ type filter hook input priority 0; \
             tcp dport 9 counter accept comment \"kept\"; }}; }}"
        )
    }

    /// By what `nft list ruleset` shows.
    pub fn of(ruleset: &str) -> Self {
        let has = |text: &str| ruleset.contains(text);
        if !has("tcp dport 9 counter packets 0 bytes 0 accept comment \"kept\"") {
            Other::None
        } else if ruleset.matches("tcp dport 80 redirect to :3003").count() == 2 {
            Other::Takes
        } else if has("th dport 3000 reject") {
            Other::Refuses
        } else {
            Other::Idle
        }
    }
}

impl Model {
    /// Who answers; `None` for a refusal.
    pub fn answer(&self, side: &Side, service: Service) -> Option<&'static str> {
        if self.other == Other::Takes
            && service.protocol == Protocol::Tcp
            && service.port.get() == 80
        {
            return Some(TAKEN.1);
        }
        let run = self.run.filter(|(of, _)| *of == service);
        let port = match run {
            Some((_, to)) => to,
            None if self.is_cut(side, service) => service.port.get(),
            None => target(&self.serving(), side, service).get(),
        };
        self.listens(port)
    }

    /// Who answers at a target itself.
    pub fn direct(&self, side: &Side, at: Service) -> Option<&'static str> {
        let port = at.port.get();
        let is_dormant = self.table.as_ref().is_some_and(|t| t.damage == Damage::Dormant);
        let serving = if is_dormant { MappingSet::default() } else { self.serving() };
        let hidden = side.is_outside && is_hidden(&serving, at.protocol, port);
        self.listens(port).filter(|_| !hidden)
    }

    fn listens(&self, port: u16) -> Option<&'static str> {
        if self.other == Other::Refuses && port == TARGETS[0].0 {
            return None;
        }
        TARGETS.iter().find(|(number, _)| *number == port).and_then(|(_, name)| *name)
    }

    /// Whether what was done to the table keeps it from serving who asks.
    fn is_cut(&self, side: &Side, service: Service) -> bool {
        let Some(table) = &self.table else { return false };
        match table.damage {
            Damage::None | Damage::Rule => false,
            Damage::NoOutput => !side.is_outside,
            Damage::NoLookup => side.is_outside && is_plain(&table.mapping, service),
            Damage::Dormant => true,
        }
    }
}
