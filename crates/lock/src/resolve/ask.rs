//! Questions to the resolver.

use sconce_facts::{Base, CudaVersion};

use super::{Resolution, keep, overlaps};
use crate::error::unknown;
use crate::index::{IndexError, ProjectText, PythonAnswer, PythonRequest};
use crate::requirements::FileKind;
use crate::requirements_txt::Ask;
use crate::spec::{Flavour, Requirements};
use crate::wheel_name::normalise;

/// What every environment has.
const PIP: &str = "pip";

impl Resolution<'_> {
    /// Asks the resolver: the user's requirements with ours after them, so that the user's decide first.
    pub(super) fn ask(
        &mut self,
        base: &'static Base,
        torch: Option<String>,
        cuda: Option<CudaVersion>,
        constraints: &[&str],
        backend: Option<String>,
    ) -> Result<PythonAnswer, IndexError> {
        self.questions += 1;
        let environment = &self.spec.environment;
        let (mut requirements, mut files) = (Vec::new(), Vec::new());
        let (options, elsewhere) = self.places();
        let mut constraints: Vec<String> = constraints.iter().map(|&text| text.into()).collect();
        match &environment.requirements {
            Requirements::List(list) => requirements.clone_from(list),
            Requirements::File(file)
                if matches!(file.kind, FileKind::Requirements | FileKind::Conda) =>
            {
                for (lines, into) in
                    [(&file.lines, &mut requirements), (&file.constraints, &mut constraints)]
                {
                    for line in lines {
                        if let Ask::Requirement(text) = &line.ask {
                            into.push(text.clone());
                        }
                    }
                }
            }
            Requirements::File(_) => {}
        }
        let projects = environment.projects();
        files.extend(projects.iter().map(|project| ProjectText {
            path: project.path.clone(),
            text: project.given.clone(),
        }));
        let has = |name: &str| {
            projects.iter().position(|project| project.groups.contains(&normalise(name)))
        };
        let groups = environment.groups.iter();
        let groups = groups.filter_map(|name| Some((has(name)?, name.clone())));
        if let Requirements::File(file) = &environment.requirements
            && file.kind == FileKind::Pyproject
        {
            constraints.extend(file.constraints.iter().filter_map(|line| match &line.ask {
                Ask::Requirement(text) => Some(text.clone()),
                Ask::Option(_) | Ask::RequireHashes | Ask::File { .. } => None,
            }));
        }
        constraints.extend(self.held.iter().cloned());
        let overrides = self.overrides();
        // In every environment `pip install` works as people expect, where an index has pip.
        if !self.no_pip {
            requirements.push(PIP.to_owned());
        }
        if let Some((package, other)) = &self.instead {
            requirements.retain(|text| overlaps::name_of(text) != *package);
            requirements.push(other.clone());
        }
        requirements.extend(torch);
        if let (Flavour::Devel, Some(cuda)) = (environment.flavour, cuda) {
            requirements.extend(toolkit(cuda));
        }
        let request = PythonRequest {
            requirements,
            files,
            options,
            extras: environment.extras.clone(),
            groups: groups.collect(),
            constraints,
            overrides,
            preferences: self.previous.wheels().filter_map(keep::preference).collect(),
            base,
            machine: self.request.machine,
            indexes: environment.indexes.clone(),
            elsewhere,
            offers: self.from_source.offers(),
            built: self.from_source.built(),
            torch_backend: backend,
        };
        // One that the user asks for as well is said as anything else.
        let ours = request.requirements.iter().filter(|text| *text == PIP).count() == 1;
        match self.answer(request.clone(), base) {
            Err(IndexError::NoSolution { words }) if ours && unknown(&words) == Some(PIP) => {
                self.no_pip = true;
                self.explanation.note("no index has pip, so the image has none".to_owned());
                let mut request = request;
                request.requirements.retain(|text| text != PIP);
                self.answer(request, base)
            }
            answer => answer,
        }
    }

    /// Where the user's files have packages looked for: their options, and each place with a name for the lock.
    fn places(&self) -> (Vec<String>, Vec<(String, String)>) {
        let environment = &self.spec.environment;
        let mut options = Vec::new();
        if let Requirements::File(file) = &environment.requirements
            && matches!(file.kind, FileKind::Requirements | FileKind::Conda)
        {
            let lines = file.lines.iter().chain(&file.constraints);
            options.extend(lines.filter_map(|line| match &line.ask {
                Ask::Option(text) => Some(text.clone()),
                Ask::Requirement(_) | Ask::RequireHashes | Ask::File { .. } => None,
            }));
        }
        let projects = environment.projects();
        let of_projects = projects.iter().flat_map(|project| &project.sources.options);
        options.extend(of_projects.map(|(_, option)| option.clone()));
        let of_sources = projects.iter().flat_map(|project| &project.sources.indexes);
        let mut elsewhere: Vec<(String, String)> =
            of_sources.map(|(_, name, url)| (name.clone(), url.clone())).collect();
        let addresses = options.iter().filter_map(|option| Some(option.split_once(' ')?.1));
        elsewhere.extend(
            addresses
                .enumerate()
                .map(|(at, address)| (format!("requirements-{}", at + 1), address.to_owned())),
        );
        (options, elsewhere)
    }

    /// What stands in for the requirements of others: the user's own overrides, and what is left out.
    fn overrides(&self) -> Vec<String> {
        let environment = &self.spec.environment;
        let of_projects = environment.projects().iter();
        let overrides = of_projects.flat_map(|project| project.overrides.clone()).collect();
        overlaps::without(&environment.exclude, overrides)
    }

    /// Asks for one requirement alone, in the places where all are looked for.
    pub(super) fn ask_for(
        &mut self,
        base: &'static Base,
        requirement: String,
    ) -> Result<PythonAnswer, IndexError> {
        self.questions += 1;
        let (options, elsewhere) = self.places();
        self.index.python(&PythonRequest {
            requirements: vec![requirement],
            files: Vec::new(),
            extras: Vec::new(),
            groups: Vec::new(),
            overrides: self.overrides(),
            options,
            constraints: Vec::new(),
            preferences: Vec::new(),
            base,
            machine: self.request.machine,
            indexes: self.spec.environment.indexes.clone(),
            elsewhere,
            offers: self.from_source.offers(),
            built: self.from_source.built(),
            torch_backend: None,
        })
    }
}

/// The requirement that brings what the devel flavour adds.
pub(super) fn toolkit(cuda: CudaVersion) -> Option<String> {
    let row = sconce_facts::devel(cuda).filter(|row| row.nvcc)?;
    Some(format!("cuda-toolkit[{}]=={cuda}.*", row.extras.join(",")))
}
