//! What lets established connections live on while our table is gone.
//!
//! Their packets are translated by what connection tracking knows, and that does its work for as
//! long as some rule asks it something (`nf_ct_netns_get`) and there is a NAT chain
//! (`nf_nat_register_fn`). If a flush takes the last of either, the next packet of such a connection
//! comes to a port where nobody listens, and the connection is reset. One rule without effect, in a
//! table that others cannot flush (`NFT_TABLE_F_OWNER`, Linux 5.12), prevents that.

#![forbid(unsafe_code)]

use super::nft::encode;
use super::{CommitError, Kernel, Netlink};
use crate::plan::Step;
use crate::ruleset::{ChainName, CheckRule, Counter, Hook, Layer, Rule};

/// The rule, for as long as this value lives.
pub struct Keeper {
    _owner: Netlink,
}

const COMMENT: &str = "keeps connections while portmap guard runs";
/// How often it is tried again because somebody else has committed.
const ATTEMPTS: u32 = 10;

impl Keeper {
    pub fn open() -> Result<Self, CommitError> {
        let mut owner = Netlink::open()?;
        let chain = ChainName::Hook(Layer::Active, Hook::Prerouting);
        let rule = Rule::Check(CheckRule::OnlyTranslated);
        let rule = Step::AddRule { chain, before: None, rule, counter: Counter::default() };
        let steps = [Step::AddTable, Step::AddChain(chain), rule];
        for _ in 0..ATTEMPTS {
            let generation = owner.generation()?;
            let batch = encode::guard(std::process::id(), COMMENT, &steps, generation);
            match owner.send(batch, &steps, generation) {
                Err(CommitError::Raced) => continue,
                result => return result.map(|()| Self { _owner: owner }),
            }
        }
        Err(CommitError::Raced)
    }
}
