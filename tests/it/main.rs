//! The tests that need a kernel, the program, or both. Each works in network namespaces of its
//! own and leaves the machine's ruleset alone; see [`support`].

mod kernel_facts;
mod support;
