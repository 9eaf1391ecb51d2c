//! stub
/// stub
pub fn key_name(function: u32, hash: u64) -> String {
    format!("{function}:{hash:016x}")
}
