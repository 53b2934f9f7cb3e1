"""Skill 5: the stories in French."""

from training.text.comprehension import Facet, Language


def _list(text: str) -> tuple[str, ...]:
    return tuple(value.strip() for value in text.split(","))


_ANIMALS = _list("""un chien, un chat, un cheval, une vache, une chèvre, un cochon, un lion, un tigre, un ours, un loup,
    un renard, un lapin""")
_THINGS = _list("""un livre, une lampe, un tambour, une poupée, un bateau, une horloge, une cloche, un panier,
    une bougie, un miroir, un vélo, un ballon""")
_FOODS = _list("""du pain, du fromage, de la soupe, du riz, une pomme, une poire, une banane, du poisson, du poulet,
    du miel, du raisin, du chocolat""")
_PLACES = _list("""à la plage, dans la forêt, à la rivière, à la gare, à la ferme, à la bibliothèque, au parc, au marché,
    au musée, au château, au village, au lac""")
_COLOURS = _list(
    "en rouge, en bleu, en vert, en noir, en blanc, en jaune, en brun, en rose, en gris, en violet"
)

FACETS = (
    Facet(
        "acheter",
        "a acheté {v}",
        _THINGS,
        (
            "{n} a acheté {v} au marché.",
            "Au magasin, {n} a acheté {v}.",
            "Le matin, {n} a acheté {v}.",
            "En ville, {n} a acheté {v}.",
            "Avec ses pièces, {n} a acheté {v}.",
        ),
        (
            "Qu'est-ce que {n} a acheté ?",
            "Quel objet {n} a acheté ?",
            "{n} a acheté quelque chose. Quoi ?",
            "Dis-moi ce que {n} a acheté.",
        ),
        ("Dans cette histoire, qu'est-ce que {n} a acheté ?", "Quel est l'objet que {n} a acheté ?"),
    ),
    Facet(
        "voir",
        "a vu {v}",
        _ANIMALS,
        (
            "{n} a vu {v} près de la route.",
            "Par la fenêtre, {n} a vu {v}.",
            "Un jour, {n} a vu {v}.",
            "Sur le chemin, {n} a vu {v}.",
            "{n} a levé la tête et a vu {v}.",
        ),
        (
            "Qu'est-ce que {n} a vu ?",
            "Quel animal {n} a vu ?",
            "{n} a vu un animal. Lequel ?",
            "Dis-moi ce que {n} a vu.",
        ),
        ("Dans cette histoire, qu'est-ce que {n} a vu ?", "Quel est l'animal que {n} a vu ?"),
    ),
    Facet(
        "manger",
        "a mangé {v}",
        _FOODS,
        (
            "{n} a mangé {v} à midi.",
            "Le soir, {n} a mangé {v}.",
            "{n} avait faim et a mangé {v}.",
            "À table, {n} a mangé {v}.",
            "Dans la cuisine, {n} a mangé {v}.",
        ),
        (
            "Qu'est-ce que {n} a mangé ?",
            "Quel repas {n} a mangé ?",
            "{n} a mangé quelque chose. Quoi ?",
            "Dis-moi ce que {n} a mangé.",
        ),
        ("Dans cette histoire, qu'est-ce que {n} a mangé ?", "Quel est le repas que {n} a mangé ?"),
    ),
    Facet(
        "aller",
        "va {v}",
        _PLACES,
        (
            "{n} va {v}.",
            "Après le repas, {n} va {v}.",
            "Avec un ami, {n} va {v}.",
            "{n} prend le bus et va {v}.",
            "Ensuite, {n} va {v}.",
        ),
        ("Où va {n} ?", "À quel endroit va {n} ?", "{n} va quelque part. Où ?", "Dis-moi où va {n}."),
        ("Dans cette histoire, où va {n} ?", "Quel est l'endroit où va {n} ?"),
    ),
    Facet(
        "peindre",
        "a peint la porte {v}",
        _COLOURS,
        (
            "{n} a peint la porte {v}.",
            "Avec un pinceau, {n} a peint la porte {v}.",
            "Le matin, {n} a peint la porte {v}.",
            "{n} a pris un pinceau et a peint la porte {v}.",
            "Enfin, {n} a peint la porte {v}.",
        ),
        (
            "De quelle couleur {n} a peint la porte ?",
            "Quelle couleur {n} a choisie pour la porte ?",
            "{n} a peint la porte. En quelle couleur ?",
            "Dis-moi de quelle couleur {n} a peint la porte.",
        ),
        (
            "Dans cette histoire, de quelle couleur {n} a peint la porte ?",
            "Quelle est la couleur que {n} a choisie pour la porte ?",
        ),
    ),
)

FRENCH = Language(
    "fr",
    "french",
    tuple(
        """Pierre Marie Jean Claire Louis Camille Julien Chloé Antoine Léa Hugo Manon Lucas Inès Paul Sophie Marc Élise Nicolas
        Jeanne René Amélie Gaston Zoé""".split()
    ),
    FACETS,
    person_last=(
        "La personne qui {deed} est {n}.",
        "Celui ou celle qui {deed} est {n}.",
        "Quelqu'un {deed}, et c'est {n}.",
        "Tu sais qui {deed} ? C'est {n}.",
        "Quelqu'un {deed} : c'est {n}.",
    ),
    who=("Qui {deed} ?", "Quelle personne {deed} ?", "Qui est-ce qui {deed} ?", "Dis-moi qui {deed}."),
    who_unseen=("Dans cette histoire, qui {deed} ?", "Quelle est la personne qui {deed} ?"),
    openings=(
        "Il fait {temps} aujourd'hui.",
        "C'est {jour}.",
        "Il était une fois un petit village.",
        "Le soleil brille.",
        "Les amis se retrouvent {jour}.",
        "Il y a de la neige sur la montagne.",
        "La pluie tombe.",
    ),
    fillers=(
        "{animal} dort sous un arbre.",
        "Il y a de la musique dans la rue.",
        "Tout le monde est {humeur}.",
        "La rivière est calme.",
        "{animal} traverse la route.",
        "Les enfants jouent dans la cour.",
        "Le roi est {humeur}.",
        "Une cloche sonne.",
        "La pluie s'arrête.",
        "Les fleurs du jardin sont belles.",
        "La grand-mère raconte une histoire.",
    ),
    endings=(
        "Puis tout le monde rentre à la maison.",
        "Le soir, ils sont fatigués.",
        "C'était une belle journée.",
        "La lune se lève.",
        "Ensuite, ils chantent une chanson.",
    ),
    question="Question :",
    answer="Réponse :",
    slots={
        "temps": ("beau", "froid", "chaud", "gris", "doux"),
        "jour": ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"),
        "humeur": ("content", "triste", "calme", "fier", "surpris", "fatigué"),
        "animal": _ANIMALS,
    },
)
