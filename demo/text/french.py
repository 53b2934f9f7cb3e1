"""Skill 5: the stories in French."""

from demo.text.comprehension import Facet, Language

_ANIMALS = tuple(
    """un chien, un chat, un cheval, une vache, un mouton, une chèvre, un cochon, un lion, un tigre, un ours,
    un loup, un renard, un lapin, une souris, une grenouille, un poisson, un oiseau, un canard, une poule, un hibou, un aigle,
    un singe, une girafe, un zèbre, un cerf, un écureuil, une tortue, une abeille, un cygne, un âne""".replace(
        "\n    ", " "
    ).split(", ")
)
_THINGS = tuple(
    """un livre, une lampe, un tambour, une poupée, un bateau, une horloge, une cloche, un manteau, un chapeau,
    une écharpe, un panier, une bougie, un miroir, un parapluie, une chaise, un vélo, une guitare, une flûte, un crayon,
    une bague, une carte, un couteau, un seau, une couverture, un ballon, un drapeau, une clé, une montre""".replace(
        "\n    ", " "
    ).split(", ")
)
_FOODS = tuple(
    """du pain, du fromage, de la soupe, du riz, une pomme, une poire, une pêche, une banane, une orange, des cerises,
    du poisson, du poulet, un gâteau, une tarte, une salade, du miel, un œuf, des haricots, des pâtes, du raisin, du beurre,
    une omelette, des crêpes, du chocolat""".replace("\n    ", " ").split(", ")
)
_PLACES = tuple(
    """à la plage, dans la forêt, à la rivière, à la gare, à la maison, à la ferme, à la bibliothèque, à la montagne,
    au parc, au marché, au musée, au château, au village, au lac, au jardin, au théâtre, au zoo, au cinéma, à la piscine,
    à la boulangerie, au port, au pont, à la mer, à la campagne""".replace("\n    ", " ").split(", ")
)
_COLOURS = tuple(
    "en rouge, en bleu, en vert, en noir, en blanc, en jaune, en brun, en rose, en gris, en violet, en orange".split(
        ", "
    )
)

FACETS = (
    Facet(
        "acheter",
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
        ("Qui a acheté {v} ?", "Quelle personne a acheté {v} ?", "Qui est-ce qui a acheté {v} ?"),
    ),
    Facet(
        "voir",
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
        ("Qui a vu {v} ?", "Quelle personne a vu {v} ?", "Qui est-ce qui a vu {v} ?"),
    ),
    Facet(
        "manger",
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
        ("Qui a mangé {v} ?", "Quelle personne a mangé {v} ?", "Qui est-ce qui a mangé {v} ?"),
    ),
    Facet(
        "aller",
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
        ("Qui va {v} ?", "Quelle personne va {v} ?", "Qui est-ce qui va {v} ?"),
    ),
    Facet(
        "peindre",
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
        (
            "Qui a peint la porte {v} ?",
            "Quelle personne a peint la porte {v} ?",
            "Qui est-ce qui a peint la porte {v} ?",
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
