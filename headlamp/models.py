"""What can be asked of an open model. Every answer is the command line's, by the same words and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.anatomy.addresses import parse_address
from analysis.anatomy.anatomy import Site
from analysis.intervening.clamps import Clamp
from analysis.levers.controls import CONTROLS
from analysis.neurons.decoding import NeuronNorm
from analysis.neurons.word_search import By, Sign, check_ranking
from analysis.running.generation import Sampling
from analysis.super_experts.controls import DRAWS
from headlamp import asking
from headlamp.answers import NeuronFacts, TextPair, WordNeurons
from headlamp.asking import Prompts
from headlamp.measured import DoseCurves, ExpertTable, Levers, Removed, Saved, Unlearned
from headlamp.opened import File, OpenModel
from headlamp.recipes import Recipe, collect_changes, read_recipe
from store.evidence import make_token_visible
from workbench.cli.commands.generate import generate_text
from workbench.cli.commands.levers import search_levers
from workbench.cli.commands.neurons import write_search
from workbench.cli.commands.skills import measure_removal
from workbench.cli.commands.sweep import measure_sweep
from workbench.cli.commands.unlearn import measure_unlearning
from workbench.cli.shared.session import expand_home, show_bar
from workbench.files import check_new_folder
from workbench.findings.findings import keep_effect, keep_generation
from workbench.findings.pair_evidence import check_keepable, list_outputs
from workbench.generating.requests import GenerationRequest
from workbench.levers.questions import ask_levers
from workbench.levers.sweeps import resolve_sweep
from workbench.neurons.answers import answer_neuron
from workbench.neurons.profiles import resolve_clamps
from workbench.neurons.searching import find_word
from workbench.saving.saving import save_model
from workbench.unlearning.checks import check_scene
from workbench.unlearning.concepts.questions import ConceptQuestion
from workbench.unlearning.unlearning import read_method_recipe


class Model(OpenModel):
    """An open model. Prompts are texts, or a file of JSON lines; words, addresses and clamps are written as
    on the command line. What is stored is not computed again.
    """

    def find(
        self,
        word: str,
        *,
        site: Site = "down",
        norm: NeuronNorm = "none",
        by: By = "z",
        sign: Sign | None = None,
        limit: int = 20,
    ) -> WordNeurons:
        """The neurons that decode to a word, out of all, best first. Raises UnknownWord for no token."""
        check_ranking(by, sign)
        with show_bar(f"searching {site}") as bar:
            found = find_word(
                self.loaded, self.store, word,
                site=site, norm=norm, by=by, sign=sign, limit=limit, progress=bar,
            )  # fmt: skip
        return WordNeurons(self.write(write_search(found)), found, by)

    def neuron(self, address: str, *, text: str | None = None, profile: bool = False) -> NeuronFacts:
        """One neuron: its tokens, and its activations along a text. profile: whether to read the reference
        text first where it was not. Raises BadAddress, AddressOutOfRange.
        """
        where = parse_address(address)
        with show_bar("reading the reference text") as bar:
            found = answer_neuron(self.loaded, self.store, where, text, read=profile, progress=bar)
        return NeuronFacts(self.write(found.to_document()))

    def generate(
        self,
        prompt: str,
        *,
        clamps: Sequence[str | Clamp] = (),
        recipe: Recipe | None = None,
        word: str = "",
        answer_prefix: str = "",
        system: str = "",
        max_new_tokens: int = 40,
        temperature: float = 0.0,
        seed: int = 0,
        keep: str | None = None,
    ) -> TextPair:
        """A prompt continued with and without clamps and a recipe. word: also measure its probability. keep:
        the title of a finding. Raises ClampError, RecipeError, TextError.
        """
        asked = GenerationRequest(
            prompt,
            collect_changes(self.loaded, recipe, clamps),
            answer_prefix,
            Sampling(max_new_tokens, temperature, seed),
            word,
            system,
        )
        if keep is not None:
            check_keepable(asked.clamps)
        found = generate_text(self.loaded, self.store, asked)
        if keep is not None:
            keep_generation(self.loaded, self.store, found, title=keep)
        texts = self.loaded.vocabulary.texts
        base, changed = (
            tuple(make_token_visible(texts[i]) for i in ids) for ids in (found.base_ids, found.changed_ids)
        )
        document = {"prompt": prompt, "seed": seed} | list_outputs(found)
        return TextPair(self.write(document), found, (base, changed))

    def sweep(
        self,
        neurons: Sequence[str],
        word: str,
        *,
        prompts: Prompts = (),
        values: str = "-4r..4r",
        scope: str = "last",
        site: str = "key",
        controls: int = CONTROLS,
        answer_prefix: str = "",
        seed: int = 0,
        keep: str | None = None,
    ) -> DoseCurves:
        """A word's probability while each neuron is held at many values, beside random neurons. prompts:
        those of the word's kind, where none are given. Raises ClampError, TextError.
        """
        asked = asking.ask_sweep(
            self.loaded, neurons, word, prompts, answer_prefix,
            values=values, scope=scope, site=site, controls=controls, seed=seed,
        )  # fmt: skip
        with show_bar("reading the reference text") as bar:
            asked = resolve_sweep(self.loaded, self.store, asked, bar)
        run, found = measure_sweep(self.loaded, self.store, asked)
        if keep is not None:
            keep_effect(self.loaded, self.store, asked, found, run, title=keep)
        return DoseCurves(self.write(found.to_document()), asked.document())

    def levers(
        self,
        word: str,
        *,
        prompts: Prompts = (),
        held_out: Sequence[str] = (),
        answer_prefix: str = "",
        controls: int = CONTROLS,
        search_matched: bool = False,
        seed: int = 0,
        keep: str | None = None,
    ) -> Levers:
        """The neurons that make the model say a word: chosen on some prompts, reported on held-out ones.
        Raises UnknownWord, TextError.
        """
        asked = ask_levers(
            self.loaded, word,
            asking.read_prompts(prompts, word), held_out, asking.make_common(answer_prefix),
            controls=controls, search_matched=search_matched, seed=seed,
        )  # fmt: skip
        stored = search_levers(self.loaded, self.store, asked)
        if keep is not None:
            keep_effect(self.loaded, self.store, asked, stored.answer, stored.run, title=keep)
        return Levers(self.write(stored.answer.to_document()), asked.document())

    def experts(
        self, *, text: File | None = None, prune: str | None = None, draws: int = DRAWS, seed: int = 0
    ) -> ExpertTable:
        """Which experts are super, and what is lost without them. text: a file to read in place of the
        bundled one. prune: `super`, or addresses with commas between. Raises ExpertError.
        """
        return ExpertTable(
            self.write(asking.read_experts(self.loaded, self.store, text, prune, draws=draws, seed=seed))
        )

    def unlearn(
        self,
        forget: File,
        *,
        retain: File | Sequence[File] = (),
        method: str | Sequence[str] = "ksd",
        limit: int = 0,
        quick: bool = False,
        seed: int = 0,
    ) -> Unlearned:
        """Forget one skill and retain others, measured before and after; skills are files. limit: examples
        used of each, 0 for all. quick: a first answer within minutes. Raises SkillError.
        """
        asked = asking.ask_unlearning(forget, retain, method, limit=limit, quick=quick, seed=seed)
        check_scene(self.loaded, asked)
        found = measure_unlearning(self.loaded, self.store, asked)
        recipe = read_method_recipe(self.store, found.run, 0)
        return Unlearned(self.write(found.document), recipe)

    def tars(
        self,
        concept: str | Sequence[str],
        *,
        prompts: Prompts,
        held_out: Sequence[str] = (),
        answer_prefix: str = "",
        seed: int = 0,
    ) -> Removed:
        """Remove concepts by reversing the vectors that point at them. prompts: that the model answers with
        the concept. Raises UnknownWord, TextError.
        """
        words = (concept,) if isinstance(concept, str) else tuple(concept)
        concepts, other = asking.read_concepts(
            words, asking.read_prompts(prompts), asking.make_common(answer_prefix), held_out, (), ()
        )
        question = ConceptQuestion(concepts, other, seed=seed)
        found, files = measure_removal(self.loaded, self.store, question)
        return Removed(self.write(found.to_document()), files)

    def save(self, recipe: Recipe, folder: File, *, drop_experts: bool = False) -> Saved:
        """Write a recipe's changes into the weights of a new model. Raises RecipeError for what no weight can
        hold, HeadlampError for a folder that is there.
        """
        given, target = read_recipe(recipe), expand_home(Path(folder))
        check_new_folder(target)
        asking.check_saved(given)
        changes = resolve_clamps(self.loaded, self.store, collect_changes(self.loaded, recipe, ()))
        saved = save_model(self.loaded, changes, target, given.files, drop=drop_experts)
        return Saved(self.write(saved.to_document()))


def open(name: str, *, db: File | None = None, device: str = "auto", dtype: str = "auto") -> Model:
    """Open a model: a bundled name, a local folder or .gguf file, or a Hub id. db: the database; HEADLAMP_DB,
    else the user's own, where none is given. Raises a ModelError that says what to do.
    """
    return Model(name, db=db, device=device, dtype=dtype)
