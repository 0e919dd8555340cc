//! The service manager, as far as boot is concerned.

use std::path::Path;
use std::process::Command;

/// What boot runs. Not `portmap.service`: that is a name of rpcbind's on Debian and its kin.
pub const RESTORE: &str = "portmap-nft.service";

/// Where systemctl(1) is installed. Never looked up in the caller's PATH: it runs as root.
const SYSTEMCTL: [&str; 2] = ["/usr/bin/systemctl", "/bin/systemctl"];

/// sd_booted(3).
pub fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// Makes boot start a unit; or says why not.
pub fn enable(unit: &str) -> Result<(), String> {
    let systemctl = SYSTEMCTL.into_iter().find(|path| Path::new(path).exists());
    let systemctl = systemctl.ok_or("there is no systemctl in /usr/bin or /bin")?;
    let output = Command::new(systemctl)
        .args(["--quiet", "enable", unit])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .map_err(|e| format!("run {systemctl}: {e}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
