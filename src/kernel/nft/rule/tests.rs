use super::super::encode;
use super::*;
use crate::kernel::netlink::wire::Malformed;
use crate::kernel::netlink::wire::Messages;
use crate::mapping::{Port, Selector, Service, Target};
use crate::plan::Step;
use crate::ruleset::Layer;

struct NoSets;

impl Sets for NoSets {
    fn elements(&mut self, _: &str) -> Result<(Vec<Element>, bool), Malformed> {
        Err(Malformed)
    }
}

const SERVICE: Service =
    Service { protocol: Protocol::Sctp, port: Port::new(990).expect("not zero") };
const CHAIN: ChainName = ChainName::Service(Layer::Active, SERVICE);

fn selecting(source: &str, address: &str) -> Rule {
    let net = |text: &str| text.parse().into_iter().collect();
    let (sources, addresses) = (net(source), net(address));
    let matches = Matches { interfaces: vec![], sources, addresses };
    let selector = Selector::new(Scope::External, Family::Both, matches).unwrap();
    let to = Target::new(Port::new(2990).unwrap());
    Rule::Select(Box::new(Mapping { selector, ..Mapping::new(SERVICE, to) }))
}

/// The expressions as libnftnl writes them and our walk reads them.
fn through_libnftnl(rule: &Rule, counter: Counter) -> Vec<Expr> {
    let step = Step::AddRule { chain: CHAIN, before: None, rule: rule.clone(), counter };
    let batch = encode::batch(&[step], 0);
    let message = Messages(&batch.writer.bytes).nth(1).unwrap().unwrap();
    let list = message.attrs().unwrap().find(NFTA_RULE_EXPRESSIONS).unwrap().unwrap();
    Expr::decode_all(list).unwrap()
}

#[test]
fn libnftnl_writes_what_we_read() {
    let counter = Counter { packets: 7, bytes: u64::MAX };
    for (source, address) in [
        ("", ""),
        ("192.0.2.0/24", ""),
        ("10.0.0.0/9", "192.0.2.1/32"),
        ("0.0.0.0/0", "128.0.0.0/1"),
        ("2001:db8::/33", "::1/128"),
        ("", "2001:db8::/64"),
    ] {
        let rule = selecting(source, address);
        let exprs = through_libnftnl(&rule, counter);
        assert_eq!(exprs, encode(&rule, counter, &mut 0).exprs);
        assert_eq!(decode(&exprs, None, CHAIN, &mut NoSets), Ok((rule, counter)));
    }
}

#[test]
fn a_prefix_may_be_loaded_whole_or_in_part() {
    let rule = selecting("192.0.2.0/24", "");
    let mut exprs = encode(&rule, Counter::default(), &mut 0).exprs;
    let load = exprs.iter().position(|e| matches!(e, Expr::Payload { .. })).unwrap();
    assert!(matches!(exprs[load], Expr::Payload { len: 3, .. }));
    let (base, offset, dreg) = (PAYLOAD_NETWORK, 12, REG_1);
    exprs[load] = Expr::Payload { base, offset, len: 4, dreg };
    let (mask, xor) = (vec![255, 255, 255, 0], vec![0; 4]);
    exprs.insert(load + 1, Expr::Bitwise { sreg: REG_1, dreg, mask, xor });
    exprs[load + 2] = Expr::Cmp { op: CMP_EQ, sreg: REG_1, data: vec![192, 0, 2, 0] };
    let read = decode(&exprs, None, CHAIN, &mut NoSets);
    assert_eq!(read.map(|(rule, _)| rule), Ok(rule));
}

#[test]
fn damaged_bytes_never_panic() {
    let rule = selecting("10.0.0.0/9", "192.0.2.1/32");
    let step = Step::AddRule { chain: CHAIN, before: None, rule, counter: Counter::default() };
    let bytes = encode::batch(&[step], 0).writer.bytes;
    for at in 0..bytes.len() {
        for damage in [0, 1, 3, 0x7f, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] = damage;
            for message in Messages(&bytes).map_while(Result::ok) {
                let list = message.attrs().and_then(|a| a.find(NFTA_RULE_EXPRESSIONS));
                if let Ok(Some(list)) = list {
                    let exprs = Expr::decode_all(list).unwrap_or_default();
                    let _ = decode(&exprs, None, CHAIN, &mut NoSets);
                }
            }
        }
    }
}

#[test]
fn every_expression_counts() {
    let rule = selecting("10.0.0.0/9", "192.0.2.1/32");
    let exprs = encode(&rule, Counter::default(), &mut 0).exprs;
    for left_out in 0..exprs.len() {
        let mut exprs = exprs.clone();
        exprs.remove(left_out);
        let read = decode(&exprs, None, CHAIN, &mut NoSets);
        assert!(read != Ok((rule.clone(), Counter::default())), "{left_out}");
    }
    let other = ChainName::Service(Layer::Active, Service { protocol: Protocol::Tcp, ..SERVICE });
    assert_eq!(decode(&exprs, None, other, &mut NoSets), Err(Malformed));
}

/// A value that the kernel keeps for itself, as it is in memory: `value` is written with the least
/// byte first.
fn of_the_kernel<const N: usize>(mut value: [u8; N]) -> Vec<u8> {
    if cfg!(target_endian = "big") {
        value.reverse();
    }
    value.to_vec()
}

#[test]
fn what_is_in_a_packet_is_in_the_networks_order_and_all_else_in_the_processors() {
    let values = |rule: &Rule| -> Vec<Vec<u8>> {
        through_libnftnl(rule, Counter::default())
            .into_iter()
            .filter_map(|expr| match expr {
                Expr::Cmp { data, .. } | Expr::Immediate { data, .. } => Some(data),
                Expr::Bitwise { mask, .. } => Some(mask),
                _ => None,
            })
            .collect()
    };
    // RTN_LOCAL, 2; the loopback interface, 1; IPS_DST_NAT, 1 << 5; zone 28781.
    let local = of_the_kernel([2, 0, 0, 0]);
    assert_eq!(values(&Rule::ForThisHost(None)), std::slice::from_ref(&local));
    assert_eq!(values(&Rule::Check(CheckRule::OnlyOutside)), [of_the_kernel([1, 0, 0, 0])]);
    let translated = values(&Rule::Check(CheckRule::OnlyTranslated));
    assert_eq!(translated, [of_the_kernel([1 << 5, 0, 0, 0]), vec![0; 4]]);
    let [low, high] = [(TRIAL_ZONE & 0xff) as u8, (TRIAL_ZONE >> 8) as u8];
    assert_eq!(values(&Rule::Zone), [local, of_the_kernel([low, high])]);
    // Port 2990 is 0x0bae.
    let selected = values(&selecting("192.0.2.0/24", ""));
    assert_eq!(selected[2..], [vec![2], vec![192, 0, 2], vec![0x0b, 0xae]]);
}
