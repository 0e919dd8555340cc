//! Rules and chains, for every way that a packet may take through them at once.
//!
//! Where a rule may match or not, both ways are followed: what it ends in is noted, and behind it
//! the two are joined again, so that the work grows with the rules and not with their combinations.

use std::collections::HashMap;

use super::connection::Leg;
use super::exec::{End, Place, Registers, Step};
use super::expr::{Expr, Translation};
use super::facts::Moment;
use super::state::{State, join};
use super::tables::{BaseChain, Chain, Hook, Rule, Rulesets, Table};
use super::value::{Byte, Why};

/// A rule of a chain, or the chain's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Index in [`Rulesets::tables`].
    pub table: usize,
    /// Index in [`Table::chains`].
    pub chain: usize,
    /// `None`: the policy.
    pub rule: Option<usize>,
}

/// How a packet is kept from the program that it is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Silently.
    Dropped,
    /// With an answer to the client.
    Rejected,
    /// It is exempted from connection tracking, and so not translated.
    NotTracked,
    /// Somebody else's rule sends it elsewhere.
    Translated,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub spot: Spot,
    pub how: How,
    pub leg: Leg,
    pub hook: Hook,
}

/// A rule of which it cannot be told whether it matches, and what it leads to if it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    pub spot: Spot,
    pub why: Why,
    pub leg: Leg,
    pub hook: Hook,
    /// The run of a base chain that it is in.
    run: usize,
    pub blocks: bool,
    pub accepts: bool,
}

/// What happened on the way.
#[derive(Debug, Default)]
pub struct Log {
    pub blocks: Vec<Block>,
    pub accepts: Vec<Block>,
    pub splits: Vec<Split>,
    /// The run of a base chain in which each block happened.
    runs: Vec<usize>,
    /// The base chain of each run, and the number of the last.
    bases: Vec<(usize, usize)>,
    run: usize,
    work: usize,
}

/// Rules that may be evaluated for one connection: enough for any list of a hundred thousand. Chains
/// that jump to others several times, and these again, come to more than can be waited for.
const MOST_WORK: usize = 500_000;
/// `NFT_JUMP_STACK_SIZE`
const DEEPEST: usize = 16;

impl Log {
    /// The first rule that leaves the outcome open.
    pub fn decisive_split(&self) -> Option<&Split> {
        let cut_off =
            |split: &&Split| split.blocks || split.accepts && self.runs.contains(&split.run);
        let first = self.splits.iter().find(cut_off);
        first.or_else(|| self.splits.iter().find(|split| split.accepts)).or(self.splits.first())
    }

    pub fn block(&mut self, block: Block) {
        self.blocks.push(block);
        self.runs.push(self.run);
    }

    /// Says of the blocks from this one on why they may not come about.
    pub fn leave_open(&mut self, from: usize, why: &'static str) {
        let blocks = self.blocks.iter().zip(&self.runs).skip(from);
        let open = blocks.map(|(block, run)| {
            let Block { spot, leg, hook, .. } = *block;
            let (why, run) = (why.into(), *run);
            Split { spot, why, leg, hook, run, blocks: true, accepts: false }
        });
        self.splits.extend(open);
    }

    /// The last rule that let a packet in; a policy only if there is no such rule.
    pub fn accepting(&self) -> Option<&Block> {
        let input = |block: &&Block| block.leg == Leg::Open && block.hook == Hook::Input;
        let rule = self.accepts.iter().filter(input).rfind(|block| block.spot.rule.is_some());
        rule.or_else(|| self.accepts.iter().rfind(input))
    }

    /// The base chain from which a block was reached.
    pub fn base_of<'a>(&self, rulesets: &'a Rulesets, block: &Block) -> Option<&'a BaseChain> {
        let at = self.blocks.iter().position(|other| other == block)?;
        let (table, chain) = *self.bases.get(self.runs[at].checked_sub(1)?)?;
        rulesets.tables[table].chains[chain].base.as_ref()
    }

    pub fn is_exhausted(&self) -> bool {
        self.work > MOST_WORK
    }
}

/// The way through the base chains of one hook.
pub struct Machine<'a> {
    pub rulesets: &'a Rulesets,
    /// Chains by their names, for each table.
    pub names: Vec<HashMap<&'a str, usize>>,
    pub log: Log,
    /// Of one rule after another.
    registers: Registers,
}

/// What comes of a base chain.
#[derive(Debug, Default)]
pub struct Passed {
    /// What is known of the packet if it goes on.
    pub on: Option<State>,
    /// If a rule of a NAT chain translated it; `translations` says what.
    pub translated: Option<State>,
    pub translations: Vec<(Spot, Translation)>,
}

/// One run of a base chain.
struct Run<'a> {
    table: usize,
    moment: Moment<'a>,
    passed: Passed,
    /// For each chain that was jumped to.
    visits: HashMap<usize, Vec<Visit>>,
}

/// What came of a chain for a packet of which so much was known. The next jump to it comes to the
/// same: without this, chains that jump to others twice, and these again, double the work each time.
#[derive(Clone)]
struct Visit {
    before: State,
    after: Option<State>,
    /// The first that it ended in, if it did.
    block: Option<Block>,
    accept: Option<Block>,
}

/// Visits of a chain that are kept, each to be compared with: a packet changes rarely on its way.
const VISITS_MAX: usize = 8;

/// What comes of a rule.
struct Ran {
    /// If it does not end the walk.
    on: Option<State>,
    ends: Vec<(End, State)>,
    why: Option<Why>,
}

impl<'a> Machine<'a> {
    pub fn new(rulesets: &'a Rulesets) -> Self {
        let index = |table: &'a Table| {
            let names = table.chains.iter().enumerate();
            names.map(|(index, chain)| (chain.name.as_str(), index)).collect()
        };
        let names = rulesets.tables.iter().map(index).collect();
        Self { rulesets, names, log: Log::default(), registers: Registers::new() }
    }

    /// Sends a packet through a base chain.
    pub fn base_chain(
        &mut self,
        (table, chain): (usize, usize),
        base: &BaseChain,
        moment: Moment<'_>,
        state: State,
    ) -> Passed {
        self.log.bases.push((table, chain));
        self.log.run = self.log.bases.len();
        let mut run = Run { table, moment, passed: Passed::default(), visits: HashMap::new() };
        if let Some(state) = self.chain(&mut run, chain, state, 0) {
            let spot = Spot { table, chain, rule: None };
            match base.drops {
                true => self.block(&run, spot, How::Dropped),
                false => self.accept(&mut run, spot, state),
            }
        }
        run.passed
    }

    fn block(&mut self, run: &Run, spot: Spot, how: How) {
        let Moment { leg, hook, .. } = run.moment;
        self.log.block(Block { spot, how, leg, hook });
    }

    fn accept(&mut self, run: &mut Run, spot: Spot, state: State) {
        let Moment { leg, hook, .. } = run.moment;
        self.log.accepts.push(Block { spot, how: How::Dropped, leg, hook });
        run.passed.on = join(run.passed.on.take(), Some(state));
    }

    /// What is known of the packet where the chain is at its end, or returns.
    fn chain(&mut self, run: &mut Run, chain: usize, state: State, depth: usize) -> Option<State> {
        let rulesets = self.rulesets;
        let rules = &rulesets.tables[run.table].chains[chain].rules;
        let (mut live, mut returned) = (Some(state), None);
        for (index, rule) in rules.iter().enumerate() {
            let Some(state) = live.take() else { break };
            let spot = Spot { table: run.table, chain, rule: Some(index) };
            let ran = self.rule(run, rule, state);
            let before = (self.log.blocks.len(), self.log.accepts.len());
            let split = self.log.splits.len();
            if let Some(why) = ran.why {
                let Moment { leg, hook, .. } = run.moment;
                let run = self.log.run;
                let (blocks, accepts) = (false, false);
                self.log.splits.push(Split { spot, why, leg, hook, run, blocks, accepts });
            }
            let unsure = self.log.splits.len() > split;
            live = ran.on;
            for (end, state) in ran.ends {
                let (goes_on, leaves) = self.end(run, spot, end, state, depth);
                live = join(live, goes_on);
                returned = join(returned, leaves);
            }
            if unsure {
                let translated = run.passed.translations.iter().any(|(at, _)| *at == spot);
                let found = &mut self.log.splits[split];
                found.blocks = self.log.blocks.len() > before.0;
                found.accepts = self.log.accepts.len() > before.1 || translated;
            }
        }
        join(returned, live)
    }

    /// What is known if the packet goes on behind the rule, and if it leaves the chain.
    fn end(
        &mut self,
        run: &mut Run,
        spot: Spot,
        end: End,
        mut state: State,
        depth: usize,
    ) -> (Option<State>, Option<State>) {
        match end {
            End::Accept => self.accept(run, spot, state),
            End::Drop => self.block(run, spot, How::Dropped),
            End::Reject => self.block(run, spot, How::Rejected),
            End::Return => return (None, Some(state)),
            End::Translate(translation) => {
                run.passed.translations.push((spot, translation));
                run.passed.translated = join(run.passed.translated.take(), Some(state));
            }
            End::Jump(name) => return (self.jump(run, spot, &name, state, depth), None),
            End::Goto(name) => return (None, self.jump(run, spot, &name, state, depth)),
            End::Anything(_) => {
                state.mark = [Byte::ANY; 4];
                state.connection_mark = [Byte::ANY; 4];
                self.block(run, spot, How::Dropped);
                self.accept(run, spot, state.clone());
                return (Some(state.clone()), Some(state));
            }
        }
        (None, None)
    }

    fn jump(
        &mut self,
        run: &mut Run,
        spot: Spot,
        name: &str,
        state: State,
        depth: usize,
    ) -> Option<State> {
        let target = self.names[run.table].get(name).copied();
        match target.filter(|_| depth < DEEPEST && !self.log.is_exhausted()) {
            Some(chain) => self.visit(run, chain, state, depth + 1),
            None => {
                let why =
                    End::Anything(format!("jumps to chain {name}, which is not there").into());
                self.end(run, spot, why, state, depth).0
            }
        }
    }

    /// The chain, unless it is known already what comes of it.
    fn visit(&mut self, run: &mut Run, chain: usize, state: State, depth: usize) -> Option<State> {
        let mut visits = run.visits.get(&chain).into_iter().flatten();
        if let Some(visit) = visits.find(|visit| visit.before == state).cloned() {
            // Whoever jumps here leads to it as well.
            visit.block.into_iter().for_each(|block| self.log.block(block));
            self.log.accepts.extend(visit.accept);
            return visit.after;
        }
        let before = state.clone();
        let (blocks, accepts) = (self.log.blocks.len(), self.log.accepts.len());
        let after = self.chain(run, chain, state, depth);
        let block = self.log.blocks.get(blocks).cloned();
        let accept = self.log.accepts.get(accepts).cloned();
        let visits = run.visits.entry(chain).or_default();
        if visits.len() < VISITS_MAX {
            visits.push(Visit { before, after: after.clone(), block, accept });
        }
        after
    }

    fn rule(&mut self, run: &Run, rule: &Rule, mut state: State) -> Ran {
        self.log.work += 1;
        let mut ran = Ran { on: None, ends: Vec::new(), why: None };
        if self.log.is_exhausted() {
            let why = Why::from("there are too many rules");
            ran.ends.push((End::Anything(why.clone()), state));
            ran.why = Some(why);
            return ran;
        }
        let place = Place { moment: run.moment, table: &self.rulesets.tables[run.table] };
        let registers = &mut self.registers;
        registers.forget();
        // Why an earlier condition may not hold, as long as nothing has come of the rule.
        let mut open: Option<Why> = None;
        for expr in &rule.exprs {
            if !is_condition(expr) {
                ran.leave_open(&mut open, &state);
            }
            match place.step(expr, registers, &mut state) {
                Step::Next => {}
                // Whatever the earlier conditions are: the packet goes on as it came.
                Step::Break => break,
                Step::Perhaps(why) => {
                    open.get_or_insert(why);
                }
                Step::Ends { ends, or_break, why } => {
                    ran.leave_open(&mut open, &state);
                    ran.why = ran.why.or(why);
                    if or_break {
                        ran.on = join(ran.on, Some(state.clone()));
                    }
                    note_queue(&ends, &mut ran.why);
                    ran.ends.extend(ends.into_iter().map(|end| (end, state.clone())));
                    return ran;
                }
                Step::Anything(why) => {
                    ran.leave_open(&mut open, &state);
                    ran.why.get_or_insert(why.clone());
                    ran.ends.push((End::Anything(why), state));
                    return ran;
                }
            }
        }
        ran.on = join(ran.on, Some(state));
        ran
    }
}

impl Ran {
    /// Follows the packet also if the rule has ended at an earlier condition.
    fn leave_open(&mut self, open: &mut Option<Why>, state: &State) {
        let Some(why) = open.take() else { return };
        self.why.get_or_insert(why);
        self.on = join(self.on.take(), Some(state.clone()));
    }
}

/// Whether an expression changes nothing outside the registers, unless it ends the rule.
fn is_condition(expr: &Expr) -> bool {
    use Expr::{
        Bitwise, Byteorder, Compare, Ct, Fib, Immediate, Lookup, Match, Meta, Neutral, Option,
        Payload, Range, Varying,
    };
    matches!(
        expr,
        Bitwise { .. }
            | Byteorder { .. }
            | Compare { .. }
            | Ct { .. }
            | Fib { .. }
            | Immediate { .. }
            | Lookup { .. }
            | Match(_)
            | Meta { .. }
            | Neutral(_)
            | Option { .. }
            | Payload { .. }
            | Range { .. }
            | Varying { .. }
    )
}

/// A verdict that leaves everything open says why.
fn note_queue(ends: &[End], why: &mut Option<Why>) {
    if let Some(End::Anything(open)) = ends.iter().find(|end| matches!(end, End::Anything(_))) {
        why.get_or_insert(open.clone());
    }
}

/// The base chain of a chain that is one.
pub fn base(chain: &Chain) -> Option<&BaseChain> {
    chain.base.as_ref()
}

#[cfg(test)]
mod tests {
    use super::super::connection::{Client, Connection};
    use super::super::tables::Family;
    use super::super::{Answer, judge, legacy};
    use super::*;
    use crate::mapping::{Port, Protocol, Service};

    /// Fifteen chains, of which each jumps to the next four times.
    fn ladder(rule: &str) -> Rulesets {
        let chains: String = (0..15).map(|n| format!(":c{n} - [0:0]\n")).collect();
        let jumps = |n| format!("-A c{n} -j c{}\n", n + 1).repeat(4);
        let jumps: String = (0..14).map(jumps).collect();
        let text = format!(
            "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{chains}-A INPUT -j c0\n{jumps}\
             -A c14 {rule}\nCOMMIT\n"
        );
        let tables = legacy::read(&text, Family::Ip).unwrap();
        Rulesets { tables, ..Rulesets::default() }
    }

    #[test]
    fn what_comes_of_a_chain_is_found_once() {
        let connection = Connection {
            client: Client::Here,
            address: "192.0.2.1".parse().unwrap(),
            service: Service { protocol: Protocol::Tcp, port: Port::new(80).unwrap() },
            target: Port::new(3000),
        };
        let answer = |rule: &str| judge(&ladder(rule), &connection).answer;
        assert_eq!(answer("-p tcp -m tcp --dport 3000 -j DROP"), Answer::Blocks(How::Dropped));
        assert_eq!(answer("-p tcp -m tcp --dport 22 -j DROP"), Answer::Accepts);
        let limited = answer("-p tcp -m tcp --dport 3000 -m limit --limit 1/sec -j DROP");
        assert_eq!(limited, Answer::CannotTell);
    }
}
