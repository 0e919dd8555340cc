//! Mappings, and all that is wanted together.

use super::{Comment, Direct, Selector, Service, Target, User};

/// One service port and where its connections go. A range in the file is as many of these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mapping {
    pub service: Service,
    pub selector: Selector,
    pub to: Target,
    pub comment: Option<Comment>,
    /// Whose sockets may answer; `None`: anybody's. Within a set, mappings of one service to one
    /// target have the same: their answers cannot be told apart.
    pub user: Option<User>,
    /// Within a set, mappings of one protocol to one target have the same.
    pub direct: Direct,
}

impl Mapping {
    /// A mapping for everyone, which anybody may answer.
    pub const fn new(service: Service, to: Target) -> Self {
        let selector = Selector::ANYONE;
        Self { service, selector, to, comment: None, user: None, direct: Direct::Allow }
    }
}

/// All that is wanted, sorted by service; mappings of one service are in the order in which the
/// kernel tries them, and the first that matches wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingSet {
    mappings: Vec<Mapping>,
}

impl MappingSet {
    /// Sorts by service; the order of mappings of one service is kept, except that mappings whose
    /// order cannot matter (none overlaps another) are put into the canonical one.
    pub fn new(mut mappings: Vec<Mapping>) -> Self {
        mappings.sort_by_key(|m| m.service);
        for same_service in mappings.chunk_by_mut(|a, b| a.service == b.service) {
            if is_disjoint(same_service) {
                same_service.sort();
            }
        }
        Self { mappings }
    }

    pub fn len(&self) -> usize {
        self.mappings.len()
    }

    pub fn is_empty(&self) -> bool {
        self.mappings.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Mapping> {
        self.mappings.iter()
    }

    /// The mappings of one service after another, each group in order of evaluation.
    pub fn services(&self) -> impl Iterator<Item = &[Mapping]> {
        self.mappings.chunk_by(|a, b| a.service == b.service)
    }

    /// The mappings of `service` in order of evaluation; empty if there are none.
    pub fn of(&self, service: Service) -> &[Mapping] {
        let start = self.mappings.partition_point(|m| m.service < service);
        let len = self.mappings[start..].partition_point(|m| m.service == service);
        &self.mappings[start..start + len]
    }
}

impl<'a> IntoIterator for &'a MappingSet {
    type Item = &'a Mapping;
    type IntoIter = std::slice::Iter<'a, Mapping>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Whether the mappings of one service need no rules: none asks for more than scope and family,
/// and no connection is meant by two of them.
pub fn is_disjoint(same_service: &[Mapping]) -> bool {
    same_service.iter().enumerate().all(|(i, m)| {
        m.selector.matches().is_none()
            && same_service[..i].iter().all(|earlier| !earlier.selector.overlaps(&m.selector))
    })
}
