//! Which services of this host an argument names, and who serves them.

use crate::commands::failure::{Failure, Result};
use crate::formats::rules::{NamedPorts, named_ports};
use crate::host::listeners::Listener;
use crate::host::services::Services;
use crate::kernel::{Kernel, Netlink};
use crate::mapping::{MappingSet, Port, Protocol, Service};
use crate::story::{Outcome, Story};

/// Those of the arguments, sorted; without any, all that are mapped. A port without a protocol means
/// those for which it is mapped, or TCP if it is for none.
pub fn named(arguments: &[String], mapping: &MappingSet) -> Result<Vec<Service>> {
    let mapped = || mapping.services().map(|group| group[0].service);
    if arguments.is_empty() {
        return Ok(mapped().collect());
    }
    let database = Services::default();
    let lookup = |name: &str, protocol| database.lookup(name, protocol);
    let mut services = Vec::new();
    for argument in arguments {
        let NamedPorts { ports, protocols } =
            named_ports(argument, &lookup).map_err(|wrong| Failure::Usage {
                message: wrong.message,
                help: wrong.help.unwrap_or_else(|| "a port is named as in 80 or 53/udp".into()),
            })?;
        for port in ports.iter() {
            let of_port = |service: &Service| service.port == port;
            let protocols = match &protocols {
                Some(protocols) => protocols.clone(),
                None => mapped().filter(of_port).map(|service| service.protocol).collect(),
            };
            let protocols = if protocols.is_empty() { vec![Protocol::Tcp] } else { protocols };
            services.extend(protocols.into_iter().map(|protocol| Service { protocol, port }));
        }
    }
    services.sort_unstable();
    services.dedup();
    Ok(services)
}

/// Who listens on the port that was reached, where that matters.
pub fn listeners(story: &Story) -> Vec<Listener> {
    let matters = matches!(story.outcome, Outcome::Answered | Outcome::Refused | Outcome::Ignored);
    let Some(port) = Port::new(story.reached.port()).filter(|_| matters) else { return Vec::new() };
    // Without it the story is told all the same.
    let Ok(mut kernel) = Netlink::open() else { return Vec::new() };
    let mut listening = kernel.listening(&[story.protocol]);
    listening.name(|listener| listener.port == port);
    listening.on(story.protocol, port).to_vec()
}
