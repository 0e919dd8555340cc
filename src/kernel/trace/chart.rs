//! What is known of the chains and rules that a story names.

use crate::firewall::{self, Backend, Rulesets, Spot, Table, Traffic, text};
use crate::mapping::{Port, PortRange};
use crate::story::{Base, Chart, Leg, Opening, Outcome, Place, Said, Story, Written};

/// Looks them up. What has been removed since is left out.
pub fn chart(rulesets: &Rulesets, story: &Story) -> Chart {
    let mut chart = Chart::default();
    for passage in &story.passages {
        let Some(table) = table(rulesets, &passage.place) else { continue };
        if let Some(base) = table.chain(&passage.place.chain).and_then(|chain| chain.base.as_ref())
        {
            let base = Base { hook: base.hook.name(), priority: base.priority };
            chart.bases.insert(passage.place.clone(), base);
        }
        for word in &passage.words {
            let Said::Rule { handle, .. } = word.said else { continue };
            let place = passage.place_of(word);
            let rules = table.chain(&place.chain).map_or(&[][..], |chain| &chain.rules);
            let Some(at) = rules.iter().position(|rule| rule.handle == handle) else { continue };
            let rule = &rules[at];
            let (text, comment) = (Some(text(table, rule)), rule.comment.clone());
            chart.rules.insert((place, handle), Written { position: at + 1, text, comment });
        }
    }
    chart.opening = opening(rulesets, story);
    chart
}

/// What to type to the owner of the table that decided against the connection.
fn opening(rulesets: &Rulesets, story: &Story) -> Option<Opening> {
    let (Outcome::Rejected(by) | Outcome::Dropped(by)) = &story.outcome else { return None };
    let passage = story.passage_of(by)?;
    let at = rulesets.tables.iter().position(|table| is_it(table, &by.place))?;
    let table = &rulesets.tables[at];
    let hook = table.chain(&passage.place.chain)?.base.as_ref()?.hook;
    let chain = table.chains.iter().position(|chain| chain.name == by.place.chain)?;
    let is_that = |handle| table.chains[chain].rules.iter().position(|r| r.handle == handle);
    // The rule may have gone since.
    let rule = match by.rule {
        Some(handle) => Some(is_that(handle)?),
        None => None,
    };
    let leg = match passage.leg {
        Leg::Request => firewall::Leg::Open,
        Leg::Answer => firewall::Leg::Answer,
    };
    let deciding = firewall::deciding(rulesets, Spot { table: at, chain, rule }, leg, hook);
    let one = |port| Port::new(port).map(PortRange::one);
    let traffic = Traffic {
        protocol: story.protocol,
        ports: one(story.asked.port())?,
        targets: if story.is_translated() { Some(one(story.reached.port())?) } else { None },
    };
    let commands = firewall::remedy(rulesets, &deciding, &traffic);
    Some(Opening { owner: deciding.owner.name(), commands })
}

fn table<'r>(rulesets: &'r Rulesets, place: &Place) -> Option<&'r Table> {
    rulesets.tables.iter().find(|table| is_it(table, place))
}

fn is_it(table: &Table, place: &Place) -> bool {
    // The kernel traces no rules of legacy iptables, whose tables may have the same names.
    table.backend == Backend::Nftables
        && table.family.name() == place.family
        && table.name == place.table
}
