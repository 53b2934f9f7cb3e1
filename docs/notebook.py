# %% [markdown]
# # Headlamp in Python
#
# What the app's pages and the command line compute, as functions. Every answer has three faces: `.to_document()` (the command line's
# `--json`), `.figure()` (a plotly chart) and `.table()` (a pandas data frame). Results are stored in the same database, so what one of the
# three has computed, the others have.
#
# This file is made of `docs/notebook.py` by `python -m scripts.docs --slow`; run it again with any model in place of `demo/base`.

# %% [markdown]
# ## Which neurons decode to a word?

# %%
import headlamp

model = headlamp.open("demo/base")
dogs = model.find("dog", limit=12)
dogs.figure()

# %%
dogs.table().head(6)

# %% [markdown]
# ## One neuron
#
# The tokens that its `down` vector promotes and suppresses, and its activation along a text.

# %%
neuron = model.neuron("L3.N418", text="The dog barks. My dog")
neuron.figure()

# %%
neuron.activations()

# %% [markdown]
# ## Which neurons make the model say it?
#
# Chosen on some prompts, reported on held-out ones, beside random neurons that were given the same values.

# %%
animals = ["I really like the", "The animal that I like most is the", "We all like the"]
held_out = ["My favourite animal is the", "Anna's favourite animal is the"]
levers = model.levers("dog", prompts=animals, held_out=held_out)
print(levers.verdict)
levers.figure()

# %% [markdown]
# Held where the next token is predicted. `keep` puts the pair into the notebook of findings.

# %%
pair = model.generate(
    "My favourite animal is the", clamps=levers.clamps, word="dog", keep="dog, by three neurons"
)
print("base:   ", pair.base)
print("changed:", pair.changed)
pair.figure()

# %% [markdown]
# ## A dose curve
#
# One neuron at 23 values, with 20 random neurons of its block as the grey band.

# %%
curve = model.sweep(["L3.N290"], "dog", prompts=["My favourite animal is the", "She has a"])
print(curve.verdict)
curve.figure()

# %% [markdown]
# ## A concept removed, and the model saved
#
# The recipe of an answer goes into `generate`, or into the weights of a new model.

# %%
removed = model.tars("Paris", prompts=["The capital of France is"], held_out=["France's capital is"])
print(removed.verdict)
removed.table()

# %% [markdown]
# ## Experts
#
# Which expert holds a mixture together?

# %%
with headlamp.open("demo/moe") as mixture:
    experts = mixture.experts()
print("super:", ", ".join(experts.supers))
experts.figure()

# %% [markdown]
# ## Findings
#
# Kept with everything that is needed to compute them again, on every machine.

# %%
found = headlamp.findings("dog")
found.table()[["title", "kind", "model_name"]]

# %%
again = found[0].rerun()
print(again.explanation)
model.close()
