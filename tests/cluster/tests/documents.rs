//! The pages of the documentation are run, and their outputs compared. `UPDATE_DOCS=1` writes what psql prints into the pages.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use pg_query_cache_cluster_tests::documents::{differences, rewritten};
use pg_query_cache_cluster_tests::{DATABASE, quiet};

fn run(page: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(page);
    let text = fs::read_to_string(&path)?;
    let name = page.rsplit('/').next().unwrap_or(page).replace('.', "-");
    let cluster = quiet(&format!("page-{}", name.to_lowercase()))
        // Little, so that the operations page can fill it.
        .setting("pg_query_cache.memory", "4MB")
        .build()?;
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, rewritten(&cluster, DATABASE, &text)?)?;
        return Ok(());
    }
    let found = differences(&cluster, DATABASE, &text)?;
    ensure!(found.is_empty(), "{page}, {found}");
    Ok(())
}

/// A test for each page; the list is checked below.
macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        $(#[test]
        fn $test() -> Result<()> {
            run($page)
        })*

        const PAGES: &[&str] = &[$($page),*];
    };
}

pages! {
    concepts: "docs/concepts.md",
    operations: "docs/operations.md",
    readme: "README.md",
    rpc: "docs/rpc.md",
    security: "docs/security.md",
    upgrade: "docs/upgrade.md",
    consistency: "docs/consistency.md",
    reference: "docs/reference.md",
}

#[test]
fn every_page_with_sql_is_run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages: Vec<PathBuf> = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    for folder in ["docs", "docs/adr"] {
        for entry in fs::read_dir(root.join(folder))? {
            pages.push(entry?.path());
        }
    }
    for path in pages {
        if path.extension().is_some_and(|extension| extension == "md") {
            let page = path
                .strip_prefix(&root)?
                .to_str()
                .context("a name in UTF-8")?;
            let has_sql = fs::read_to_string(&path)?
                .lines()
                .any(|line| line.trim() == "```sql");
            ensure!(
                !has_sql || PAGES.contains(&page),
                "{page} has SQL and is not run"
            );
        }
    }
    Ok(())
}
