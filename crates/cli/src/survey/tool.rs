//! The tools that install dependencies: what each is known by, what it runs, what its result depends on, whom it asks.

/// One way of installing dependencies, known by its lockfile.
pub(super) struct Tool {
    /// What it is known by.
    pub lockfile: &'static str,
    /// As a setup is called.
    pub name: &'static str,
    /// As people call it.
    pub title: &'static str,
    pub family: Family,
    /// Commands in the lockfile's directory.
    pub install: &'static [&'static str],
    /// What tests usually are.
    pub check: Option<&'static str>,
    pub hosts: &'static [&'static str],
    /// Files beside the lockfile that matter too, where they are.
    pub beside: &'static [&'static str],
    pub env: &'static [(&'static str, &'static str)],
}

/// Tools of one family share manifests: of several lockfiles for one manifest the first of [`TOOLS`] wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Rust,
    Node,
    Python,
    Go,
    Ruby,
    Php,
    Elixir,
    Java,
}

impl Family {
    /// Files, in the lockfile's directory or the root, that say which version of the language is meant. Another version
    /// makes other dependencies.
    pub(super) fn toolchain(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["rust-toolchain.toml", "rust-toolchain", ".cargo/config.toml"],
            Self::Node => &[".nvmrc", ".node-version", ".npmrc"],
            Self::Python => &[".python-version"],
            Self::Go => &[".go-version"],
            Self::Ruby => &[".ruby-version"],
            Self::Php => &[".php-version"],
            Self::Elixir => &[],
            Self::Java => &[".java-version", ".sdkmanrc"],
        }
    }

    /// Where in a lockfile an address of a package begins, if it may be elsewhere than at the usual hosts.
    pub(super) fn addresses(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["source = \"git+", "source = \"registry+", "source = \"sparse+"],
            Self::Node => &["\"resolved\": \"", "  resolved \"", "tarball: ", "::__archiveUrl="],
            Self::Python => {
                &["url = \"", "registry = \"", "git = \"", "--index-url ", "--extra-index-url ", " @ git+"]
            }
            Self::Ruby => &["  remote: "],
            Self::Go | Self::Php | Self::Elixir | Self::Java => &[],
        }
    }
}

/// Files in the root by which version managers of all languages choose.
pub(super) const ANY_TOOLCHAIN: &[&str] = &[".tool-versions", "mise.toml", ".mise.toml"];

const fn tool(
    lockfile: &'static str,
    name: &'static str,
    title: &'static str,
    family: Family,
    install: &'static [&'static str],
) -> Tool {
    Tool { lockfile, name, title, family, install, check: None, hosts: &[], beside: &[], env: &[] }
}

const NPM: &[&str] = &["registry.npmjs.org"];
const PYPI: &[&str] = &["pypi.org", "files.pythonhosted.org"];

/// All of them.
pub(super) const TOOLS: &[Tool] = &[
    Tool {
        check: Some("cargo test --locked"),
        hosts: &["index.crates.io", "static.crates.io"],
        // Code that does not compile yet must not keep anybody from working on it.
        ..tool(
            "Cargo.lock",
            "cargo",
            "Rust",
            Family::Rust,
            &["cargo fetch --locked", "cargo test --locked --no-run || true"],
        )
    },
    Tool {
        check: Some("pnpm test"),
        hosts: NPM,
        beside: &["pnpm-workspace.yaml", ".pnpmfile.cjs"],
        // Left to itself it keeps its store beside the sources: the home directory is another file system.
        ..tool(
            "pnpm-lock.yaml",
            "pnpm",
            "Node (pnpm)",
            Family::Node,
            &[
                "pnpm config set store-dir \"$HOME/.local/share/pnpm/store\"",
                "pnpm install --frozen-lockfile",
            ],
        )
    },
    Tool {
        check: Some("yarn test"),
        hosts: &["registry.yarnpkg.com", "registry.npmjs.org"],
        beside: &[".yarnrc", ".yarnrc.yml"],
        ..tool("yarn.lock", "yarn", "Node (yarn)", Family::Node, &["yarn install --frozen-lockfile"])
    },
    Tool {
        check: Some("bun test"),
        hosts: NPM,
        ..tool("bun.lock", "bun", "Node (bun)", Family::Node, &["bun install --frozen-lockfile"])
    },
    Tool {
        check: Some("npm test"),
        hosts: NPM,
        ..tool("package-lock.json", "npm", "Node (npm)", Family::Node, &["npm ci"])
    },
    Tool {
        check: Some("uv run --frozen pytest"),
        hosts: PYPI,
        beside: &["pyproject.toml"],
        env: &[("UV_LINK_MODE", "copy")],
        ..tool("uv.lock", "uv", "Python (uv)", Family::Python, &["uv sync --frozen"])
    },
    Tool {
        check: Some("poetry run pytest"),
        hosts: PYPI,
        beside: &["pyproject.toml", "poetry.toml"],
        env: &[("POETRY_VIRTUALENVS_IN_PROJECT", "true")],
        ..tool(
            "poetry.lock",
            "poetry",
            "Python (poetry)",
            Family::Python,
            &["poetry install --no-interaction"],
        )
    },
    Tool {
        check: Some(".venv/bin/python -m pytest"),
        hosts: PYPI,
        // With the file in it git does not see the directory, as newer versions of Python do by themselves.
        ..tool(
            "requirements.txt",
            "pip",
            "Python (pip)",
            Family::Python,
            &[
                "python3 -m venv .venv && echo '*' >.venv/.gitignore",
                ".venv/bin/pip install -r requirements.txt",
            ],
        )
    },
    Tool {
        check: Some("go test ./..."),
        hosts: &["proxy.golang.org", "sum.golang.org"],
        beside: &["go.mod"],
        ..tool("go.sum", "go", "Go", Family::Go, &["go mod download", "go test -run '^$' ./... || true"])
    },
    Tool {
        check: Some("bundle exec rake test"),
        hosts: &["rubygems.org", "index.rubygems.org"],
        beside: &["Gemfile"],
        env: &[("BUNDLE_PATH", "vendor/bundle")],
        // As with pip: what is installed is not for git to see.
        ..tool(
            "Gemfile.lock",
            "bundler",
            "Ruby",
            Family::Ruby,
            &["mkdir -p vendor/bundle && echo '*' >vendor/bundle/.gitignore", "bundle install"],
        )
    },
    Tool {
        hosts: &["repo.packagist.org", "api.github.com", "codeload.github.com"],
        ..tool("composer.lock", "composer", "PHP", Family::Php, &["composer install --no-interaction"])
    },
    Tool {
        check: Some("mix test"),
        hosts: &["repo.hex.pm", "builds.hex.pm"],
        ..tool("mix.lock", "mix", "Elixir", Family::Elixir, &["mix deps.get"])
    },
    Tool {
        check: Some("mvn -q -B test"),
        hosts: &["repo.maven.apache.org"],
        ..tool("pom.xml", "maven", "Java (Maven)", Family::Java, &["mvn -q -B test-compile"])
    },
];
