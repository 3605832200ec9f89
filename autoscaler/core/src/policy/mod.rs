//! What the policies want: each reads its signal and proposes a size.

mod target;

pub use target::propose;
