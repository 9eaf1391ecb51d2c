//! Who attacks: the roles that a real server has, none of them a superuser.

/// A role, and how its sessions begin.
#[derive(Clone, Copy, Debug)]
pub struct Actor {
    /// The role that logs in.
    pub login: &'static str,
    /// What a session does first.
    pub first: &'static str,
    /// The schema that it may create in.
    pub schema: &'static str,
}

/// The actors. [`crate::ground`] makes their roles.
pub const ACTORS: [Actor; 9] = [
    actor("nobody", "", "pg_temp"),
    actor("mallory", "", "mallory"),
    actor("trudy", "", "trudy"),
    actor("landlord", "", "public"),
    actor("watcher", "", "pg_temp"),
    actor("app", "", "app"),
    actor("keeper", "", "pg_temp"),
    actor("gate", "SET ROLE anon", "pg_temp"),
    actor(
        "gate",
        "SET ROLE authenticated; SET request.jwt.claims = '{\"sub\": \"mallory\"}'",
        "pg_temp",
    ),
];

const fn actor(login: &'static str, first: &'static str, schema: &'static str) -> Actor {
    Actor {
        login,
        first,
        schema,
    }
}
