//! What to do about a refusal of the kernel, in one line.

#![forbid(unsafe_code)]

use nix::libc;

use crate::host::descriptors;
use crate::plan::Step;
use crate::ruleset::{CheckRule, Kind, Rule};

pub(super) const CAPABILITY: &str = "the capability CAP_NET_ADMIN is missing; run with sudo";
pub(super) const NF_TABLES: &str = "the kernel has no nftables (CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET); try `modprobe nf_tables`";
const OWNED: &str = "a running process has made the table its own (`flags owner`), and no other can change it: end that one, such as an `nft -i`";
const NAT_CHAIN: &str =
    "the kernel has no NAT for nftables (CONFIG_NFT_NAT); try `modprobe -a nft_chain_nat nf_nat`";
const NAT: &str =
    "the kernel has no NAT for nftables (CONFIG_NFT_NAT); try `modprobe -a nft_nat nft_chain_nat`";
const FIB: &str = "the kernel has no fib expression for nftables (CONFIG_NFT_FIB_INET); try `modprobe -a nft_fib_inet nft_fib`";
const CT: &str =
    "the kernel has no ct expression for nftables (CONFIG_NFT_CT); try `modprobe nft_ct`";
const REJECT: &str = "the kernel lacks what refuses connections (CONFIG_NFT_REJECT_INET and CONFIG_NFT_CT); try `modprobe -a nft_reject_inet nft_ct`";
const COUNTER: &str = "the kernel has no counters for nftables (CONFIG_NFT_COUNTER before Linux 5.17); try `modprobe nft_counter`";
const TOO_OLD: &str =
    "the kernel cannot do that: it takes Linux 5.10 or later, with nf_tables and NAT";

/// The remedy for an error number at a step of a transaction; none: at its beginning.
pub fn remedy(errno: i32, step: Option<&Step>) -> Option<&'static str> {
    let lacking = match errno {
        libc::ENOENT | libc::EOPNOTSUPP => step.and_then(lacking),
        _ => None,
    };
    if lacking.is_some() {
        return lacking;
    }
    match (errno, step) {
        // Without the capability, the kernel refuses the transaction before the first step.
        (libc::EPERM, Some(_)) => Some(OWNED),
        (libc::EPERM | libc::EACCES, _) => Some(CAPABILITY),
        (
            libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT,
            None | Some(Step::AddTable),
        ) => Some(NF_TABLES),
        (libc::EOPNOTSUPP, _) => Some(TOO_OLD),
        (libc::EMFILE, _) => Some(descriptors::HELP_TOO_FEW),
        (libc::ENFILE, _) => Some("the map is full: it has to be made anew with a larger size"),
        (libc::EEXIST, _) => {
            Some("something of that name or key is there already, with other content")
        }
        (libc::ENOENT, Some(Step::AddMap { .. })) => Some(COUNTER),
        (libc::ENOENT, _) => Some("it is not there, or not any more; read the table again"),
        (libc::EBUSY, _) => Some("it is still in use by a rule or an element of the table"),
        (libc::ENOMEM, _) => Some("the kernel has no memory for it"),
        _ => None,
    }
}

/// What a kernel can be built without, or has in a module that it could not load, of that which the
/// step makes. What it makes of the rest is in nf_tables itself (Linux 5.10).
fn lacking(step: &Step) -> Option<&'static str> {
    match step {
        Step::AddChain(name) => {
            name.base().filter(|base| base.kind == Kind::Nat).map(|_| NAT_CHAIN)
        }
        Step::AddRule { rule, .. } => match rule {
            Rule::ForThisHost(_) => Some(FIB),
            Rule::Lookup(_) | Rule::Select(_) | Rule::Redirect(_) => Some(NAT),
            Rule::Zone => Some(CT),
            Rule::Check(check) => match check {
                CheckRule::OnlyTranslated
                | CheckRule::OnlyReplies
                | CheckRule::OnlyDirect
                | CheckRule::Answers(_) => Some(CT),
                CheckRule::RefuseTcp(_) | CheckRule::RefuseOther(_) => Some(REJECT),
                CheckRule::OnlySynAck | CheckRule::OnlyOutside => None,
            },
            Rule::OnlyNewTcp | Rule::Gate(_) | Rule::Dispatch(_) => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use nix::libc::{
        EACCES, EAFNOSUPPORT, EBUSY, EEXIST, EINVAL, ENFILE, ENOENT, ENOMEM, EOPNOTSUPP, EPERM,
        EPROTONOSUPPORT,
    };

    use super::*;
    use crate::mapping::{Family, Scope};
    use crate::ruleset::{ChainName, Check, Counter, Hook, Layer, MapName, MapShape};

    const PORTS: MapName = MapName::Ports(Layer::Active, Scope::Both, Family::Both);
    const PREROUTING: ChainName = ChainName::Hook(Layer::Active, Hook::Prerouting);
    const ANSWERS: ChainName = ChainName::Check(Layer::Active, Check::Answers);

    fn rule(rule: Rule) -> Step {
        Step::AddRule { chain: PREROUTING, before: None, rule, counter: Counter::default() }
    }

    fn add_map() -> Step {
        Step::AddMap { name: PORTS, shape: MapShape { size: 64, counted: true } }
    }

    #[track_caller]
    fn names(errno: i32, step: Option<&Step>, what: &[&str]) {
        let help = remedy(errno, step).unwrap_or_else(|| panic!("no help: {errno} {step:?}"));
        for word in what {
            assert!(help.contains(word), "{errno} {step:?}: {help}");
        }
        assert!(!help.contains('\n'), "{help}");
    }

    #[test]
    fn what_the_kernel_is_built_without_is_named() {
        use CheckRule::{Answers, OnlyDirect, OnlyReplies, OnlyTranslated, RefuseOther, RefuseTcp};
        let layer = Layer::Active;
        let nat = ["CONFIG_NFT_NAT", "nft_chain_nat"].as_slice();
        let fib = ["CONFIG_NFT_FIB_INET", "nft_fib_inet"].as_slice();
        let ct = ["CONFIG_NFT_CT", "modprobe nft_ct"].as_slice();
        let reject = ["CONFIG_NFT_REJECT_INET", "nft_reject_inet", "nft_ct"].as_slice();
        let rules = [
            (Rule::ForThisHost(None), fib),
            (Rule::Lookup(PORTS), &["CONFIG_NFT_NAT", "modprobe -a nft_nat"]),
            (Rule::Zone, ct),
            (Rule::Check(OnlyTranslated), ct),
            (Rule::Check(OnlyReplies), ct),
            (Rule::Check(OnlyDirect), ct),
            (Rule::Check(Answers(layer)), ct),
            (Rule::Check(RefuseTcp(layer)), reject),
            (Rule::Check(RefuseOther(layer)), reject),
        ];
        for errno in [ENOENT, EOPNOTSUPP] {
            names(errno, Some(&Step::AddChain(PREROUTING)), nat);
            for (made, what) in &rules {
                names(errno, Some(&rule(made.clone())), what);
            }
        }
        for errno in [EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT] {
            names(errno, None, &["CONFIG_NF_TABLES", "modprobe nf_tables"]);
            names(errno, Some(&Step::AddTable), &["CONFIG_NF_TABLES_INET"]);
        }
        names(ENOENT, Some(&add_map()), &["CONFIG_NFT_COUNTER", "modprobe nft_counter"]);
    }

    #[test]
    fn what_no_module_brings_is_not_looked_for_in_one() {
        let layer = Layer::Active;
        let built_in = [
            rule(Rule::OnlyNewTcp),
            rule(Rule::Gate(PREROUTING)),
            rule(Rule::Dispatch(layer)),
            rule(Rule::Check(CheckRule::OnlySynAck)),
            rule(Rule::Check(CheckRule::OnlyOutside)),
            Step::AddChain(ANSWERS),
            Step::DeleteMap(PORTS),
            Step::AddServices { map: MapName::Selected(layer), services: Vec::new() },
        ];
        for step in &built_in {
            names(ENOENT, Some(step), &["read the table again"]);
            names(EOPNOTSUPP, Some(step), &["Linux 5.10"]);
        }
        for step in [add_map(), Step::AddGate, Step::AddPorts { map: PORTS, elements: vec![] }] {
            names(EOPNOTSUPP, Some(&step), &["Linux 5.10", "nf_tables"]);
        }
    }

    #[test]
    fn what_is_wrong_at_any_step_is_said_at_any_step() {
        for step in [None, Some(&add_map()), Some(&rule(Rule::Lookup(PORTS)))] {
            let refused = if step.is_some() { "flags owner" } else { "CAP_NET_ADMIN" };
            names(EPERM, step, &[refused]);
            names(EACCES, step, &["CAP_NET_ADMIN"]);
            names(ENOMEM, step, &["the kernel has no memory for it"]);
            names(ENFILE, step, &["full"]);
            names(EEXIST, step, &["is there already"]);
            names(EBUSY, step, &["in use"]);
            assert_eq!(remedy(EINVAL, step), None);
        }
    }
}
