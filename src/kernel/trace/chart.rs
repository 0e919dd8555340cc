//! What is known of the chains and rules that a story names.

use crate::firewall::{Rulesets, Table, text};
use crate::story::{Base, Chart, Place, Said, Story, Written};

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
    chart
}

fn table<'r>(rulesets: &'r Rulesets, place: &Place) -> Option<&'r Table> {
    let is_it = |t: &&Table| t.family.name() == place.family && t.name == place.table;
    rulesets.tables.iter().find(is_it)
}
