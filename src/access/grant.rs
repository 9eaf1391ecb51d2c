//! One GRANT or REVOKE, as the parser would have made it of a text in which every name is qualified and every argument has its type.

#![allow(unsafe_code)]

use super::members::Member;
use pgrx::pg_sys;
use std::ffi::CStr;

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grantee {
    /// PUBLIC.
    Everybody,
    /// A role.
    Role(pg_sys::Oid),
}

/// On what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A function.
    Function,
    /// A table or a view.
    Table,
    /// A sequence.
    Sequence,
    /// A schema.
    Schema,
    /// A language.
    Language,
}

impl Object {
    fn kind(self) -> pg_sys::ObjectType::Type {
        use pg_sys::ObjectType as Kind;
        match self {
            Object::Function => Kind::OBJECT_FUNCTION,
            Object::Table => Kind::OBJECT_TABLE,
            Object::Sequence => Kind::OBJECT_SEQUENCE,
            Object::Schema => Kind::OBJECT_SCHEMA,
            Object::Language => Kind::OBJECT_LANGUAGE,
        }
    }

    /// What an audience gets.
    fn privilege(self) -> &'static CStr {
        match self {
            Object::Function => c"execute",
            Object::Table => c"select",
            Object::Sequence | Object::Schema | Object::Language => c"usage",
        }
    }

    /// Whether an audience gets anything on its objects.
    pub fn has_audience(self) -> bool {
        matches!(self, Object::Function | Object::Table | Object::Language)
    }
}

/// A node of the parser's, zeroed but for its tag, which lives as long as the memory context.
///
/// # Safety
/// `T` is the struct of the tag.
unsafe fn node<T>(tag: pg_sys::NodeTag) -> *mut T {
    // SAFETY: an allocation of its size; every node begins with its tag.
    unsafe {
        let node = pg_sys::palloc0(size_of::<T>());
        node.cast::<pg_sys::NodeTag>().write(tag);
        node.cast()
    }
}

/// A C string in our memory context.
fn string(text: &str) -> *mut std::ffi::c_char {
    let text = crate::encoding::c_string(text).unwrap_or_default();
    // SAFETY: copies a C string.
    unsafe { pg_sys::pstrdup(text.as_ptr()) }
}

/// The name of a schema as the catalog has it, byte by byte; empty if it is gone, which no schema is called.
fn schema(oid: pg_sys::Oid) -> *mut std::ffi::c_char {
    // SAFETY: a syscache lookup that returns a C string in our memory context, or NULL.
    let name = unsafe { pg_sys::get_namespace_name(oid) };
    if name.is_null() { string("") } else { name }
}

fn list(cells: impl IntoIterator<Item = *mut std::ffi::c_void>) -> *mut pg_sys::List {
    let mut list = std::ptr::null_mut();
    for cell in cells {
        // SAFETY: a list of pointers to nodes.
        list = unsafe { pg_sys::lappend(list, cell) };
    }
    list
}

fn names(names: impl IntoIterator<Item = *mut std::ffi::c_char>) -> *mut pg_sys::List {
    // SAFETY: a node around a C string in our memory context.
    list(
        names
            .into_iter()
            .map(|name| unsafe { pg_sys::makeString(name).cast() }),
    )
}

/// The node that names an object.
fn object(member: &Member) -> *mut std::ffi::c_void {
    // SAFETY: nodes that are filled as the parser does; the function exists.
    unsafe {
        match member.object {
            Object::Schema => pg_sys::makeString(schema(member.schema)).cast(),
            Object::Language => pg_sys::makeString(string(&member.name)).cast(),
            Object::Table | Object::Sequence => {
                pg_sys::makeRangeVar(schema(member.schema), string(&member.name), -1).cast()
            }
            Object::Function => {
                let mut types = std::ptr::null_mut();
                let mut count = 0;
                pg_sys::get_func_signature(member.oid, &mut types, &mut count);
                let function = node::<pg_sys::ObjectWithArgs>(pg_sys::NodeTag::T_ObjectWithArgs);
                (*function).objname = names([schema(member.schema), string(&member.name)]);
                (*function).objargs = list(
                    (0..count as usize)
                        .map(|i| pg_sys::makeTypeNameFromOid(*types.add(i), -1).cast()),
                );
                function.cast()
            }
        }
    }
}

fn role(grantee: Grantee) -> *mut std::ffi::c_void {
    // SAFETY: as above; a role that is gone raises.
    unsafe {
        let role = node::<pg_sys::RoleSpec>(pg_sys::NodeTag::T_RoleSpec);
        (*role).location = -1;
        match grantee {
            Grantee::Everybody => (*role).roletype = pg_sys::RoleSpecType::ROLESPEC_PUBLIC,
            Grantee::Role(oid) => {
                (*role).roletype = pg_sys::RoleSpecType::ROLESPEC_CSTRING;
                (*role).rolename = pg_sys::GetUserNameFromId(oid, false);
            }
        }
        role.cast()
    }
}

/// Which privileges.
#[derive(Clone, Copy)]
pub enum What<'a> {
    /// What the audience of an object gets, on these columns if there are any.
    Use(&'a [&'a CStr]),
    /// One, on a column if there is one, and whether it may be given on.
    One(&'a CStr, Option<&'a CStr>, bool),
    /// All, and what was given on by those who had them.
    All,
}

/// GRANT or REVOKE with the rights of the present role.
pub fn execute(is_grant: bool, member: &Member, what: What<'_>, grantees: &[Grantee]) {
    // SAFETY: nodes that are filled as the parser does and live until the end of the call; the server checks the rights and raises.
    unsafe {
        let grant = node::<pg_sys::GrantStmt>(pg_sys::NodeTag::T_GrantStmt);
        (*grant).is_grant = is_grant;
        (*grant).targtype = pg_sys::GrantTargetType::ACL_TARGET_OBJECT;
        (*grant).objtype = member.object.kind();
        (*grant).objects = list([object(member)]);
        (*grant).grantees = list(grantees.iter().map(|grantee| role(*grantee)));
        let (privilege, columns) = match what {
            What::Use(columns) => (Some(member.object.privilege()), columns),
            What::One(privilege, ref column, _) => (Some(privilege), column.as_slice()),
            What::All => (None, &[][..]),
        };
        (*grant).behavior = match privilege {
            Some(_) => pg_sys::DropBehavior::DROP_RESTRICT,
            None => pg_sys::DropBehavior::DROP_CASCADE,
        };
        (*grant).grant_option = matches!(what, What::One(_, _, true));
        if let Some(name) = privilege {
            let privilege = node::<pg_sys::AccessPriv>(pg_sys::NodeTag::T_AccessPriv);
            (*privilege).priv_name = pg_sys::pstrdup(name.as_ptr());
            (*privilege).cols = names(
                columns
                    .iter()
                    .map(|column| pg_sys::pstrdup(column.as_ptr())),
            );
            (*grant).privileges = list([privilege.cast()]);
        }
        let statement = node::<pg_sys::PlannedStmt>(pg_sys::NodeTag::T_PlannedStmt);
        statement.write(pg_sys::PlannedStmt {
            type_: pg_sys::NodeTag::T_PlannedStmt,
            commandType: pg_sys::CmdType::CMD_UTILITY,
            canSetTag: true,
            utilityStmt: grant.cast(),
            stmt_location: -1,
            ..Default::default()
        });
        let text = if is_grant { c"GRANT" } else { c"REVOKE" };
        pg_sys::ProcessUtility(
            statement,
            text.as_ptr(),
            true,
            pg_sys::ProcessUtilityContext::PROCESS_UTILITY_QUERY,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone),
            std::ptr::null_mut(),
        );
        // The next one may concern the same object.
        pg_sys::CommandCounterIncrement();
    }
}
