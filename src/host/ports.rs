//! Which ports of this host are in use.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use crate::mapping::Port;

/// Whether nobody listens on the port, on any address, with TCP or UDP. Whatever else keeps this
/// process from binding it does not count.
pub fn is_free(port: Port) -> bool {
    let any = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), (Ipv4Addr::UNSPECIFIED, 0).into()];
    any.into_iter().all(|mut address| {
        address.set_port(port.get());
        let taken = |e: std::io::Error| e.kind() == ErrorKind::AddrInUse;
        !TcpListener::bind(address).is_err_and(taken) && !UdpSocket::bind(address).is_err_and(taken)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = Port::new(listener.local_addr().unwrap().port()).unwrap();
        assert!(!is_free(tcp));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!is_free(Port::new(socket.local_addr().unwrap().port()).unwrap()));
    }
}
