//! Exit codes, the same for all commands.

/// All went well.
pub(crate) const DONE: u8 = 0;
/// The node refused, or something asked for does not exist.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage or configuration; clap ends with the same.
pub(crate) const USAGE: u8 = 2;
/// No node could be reached.
pub(crate) const UNREACHABLE: u8 = 3;

/// Printed below `warren help`.
pub(crate) const HELP: &str = "\
Exit status: 0 done; 1 refused, failed or not found; 2 wrong usage or configuration; 3 no node reached.

Commands other than serve and recover talk to a node's management port: --url (or WARREN_URL, default
http://127.0.0.1:15672) and --login user:password (or WARREN_LOGIN, default guest:guest).";
