"""Skill 6: the stories in Spanish."""

from training.text.comprehension import Facet, Language


def _list(text: str) -> tuple[str, ...]:
    return tuple(value.strip() for value in text.split(","))


_ANIMALS = _list("""un perro, un gato, un caballo, una vaca, una cabra, un cerdo, un león, un tigre, un oso, un lobo,
    un zorro, un conejo""")
_THINGS = _list("""un libro, una lámpara, un tambor, una muñeca, un barco, un reloj, una campana, una cesta, una vela,
    un espejo, una bicicleta, una pelota""")
_FOODS = _list("""pan, queso, sopa, arroz, una manzana, una pera, un plátano, pescado, pollo, miel, una tarta,
    chocolate""")
_PLACES = _list("""a la playa, al bosque, al río, a la estación, a la granja, a la biblioteca, al parque, al mercado,
    al museo, al castillo, al pueblo, al lago""")
_COLOURS = _list("""de rojo, de azul, de verde, de negro, de blanco, de amarillo, de marrón, de rosa, de gris,
    de morado""")

FACETS = (
    Facet(
        "comprar",
        "compró {v}",
        _THINGS,
        (
            "{n} compró {v} en el mercado.",
            "En la tienda, {n} compró {v}.",
            "Por la mañana, {n} compró {v}.",
            "{n} fue a la ciudad y compró {v}.",
            "Con sus monedas, {n} compró {v}.",
        ),
        ("¿Qué compró {n}?", "¿Qué cosa compró {n}?", "{n} compró algo. ¿Qué fue?", "Dime qué compró {n}."),
        ("En esta historia, ¿qué compró {n}?", "¿Cuál es la cosa que compró {n}?"),
    ),
    Facet(
        "ver",
        "vio {v}",
        _ANIMALS,
        (
            "{n} vio {v} cerca del camino.",
            "Por la ventana, {n} vio {v}.",
            "Un día, {n} vio {v}.",
            "En la calle, {n} vio {v}.",
            "{n} levantó la cabeza y vio {v}.",
        ),
        ("¿Qué vio {n}?", "¿Qué animal vio {n}?", "{n} vio un animal. ¿Cuál fue?", "Dime qué vio {n}."),
        ("En esta historia, ¿qué vio {n}?", "¿Cuál es el animal que vio {n}?"),
    ),
    Facet(
        "comer",
        "comió {v}",
        _FOODS,
        (
            "{n} comió {v} al mediodía.",
            "Por la noche, {n} comió {v}.",
            "{n} tenía hambre y comió {v}.",
            "En la mesa, {n} comió {v}.",
            "En la cocina, {n} comió {v}.",
        ),
        ("¿Qué comió {n}?", "¿Qué comida comió {n}?", "{n} comió algo. ¿Qué fue?", "Dime qué comió {n}."),
        ("En esta historia, ¿qué comió {n}?", "¿Cuál es la comida que comió {n}?"),
    ),
    Facet(
        "ir",
        "va {v}",
        _PLACES,
        (
            "{n} va {v}.",
            "Después de comer, {n} va {v}.",
            "Con un amigo, {n} va {v}.",
            "{n} toma el autobús y va {v}.",
            "Luego, {n} va {v}.",
        ),
        ("¿Adónde va {n}?", "¿A qué lugar va {n}?", "{n} va a un lugar. ¿Cuál es?", "Dime adónde va {n}."),
        ("En esta historia, ¿adónde va {n}?", "¿Cuál es el lugar al que va {n}?"),
    ),
    Facet(
        "pintar",
        "pintó la puerta {v}",
        _COLOURS,
        (
            "{n} pintó la puerta {v}.",
            "Con un pincel, {n} pintó la puerta {v}.",
            "Por la mañana, {n} pintó la puerta {v}.",
            "{n} tomó un pincel y pintó la puerta {v}.",
            "Al final, {n} pintó la puerta {v}.",
        ),
        (
            "¿De qué color pintó {n} la puerta?",
            "¿Qué color usó {n} para la puerta?",
            "{n} pintó la puerta. ¿De qué color?",
            "Dime de qué color pintó {n} la puerta.",
        ),
        (
            "En esta historia, ¿de qué color pintó {n} la puerta?",
            "¿Cuál es el color de la puerta que pintó {n}?",
        ),
    ),
)

SPANISH = Language(
    "es",
    "spanish",
    tuple(
        """Juan María Pedro Lucía Carlos Carmen Luis Ana Miguel Elena José Isabel Pablo Rosa Diego Marta Javier Sofía Manuel Paula
        Andrés Irene Tomás Julia""".split()
    ),
    FACETS,
    person_last=(
        "La persona que {deed} es {n}.",
        "El que {deed} se llama {n}.",
        "Alguien {deed}, y fue {n}.",
        "¿Sabes quién {deed}? Fue {n}.",
        "Alguien {deed}: fue {n}.",
    ),
    who=("¿Quién {deed}?", "¿Qué persona {deed}?", "¿Quién fue el que {deed}?", "Dime quién {deed}."),
    who_unseen=("En esta historia, ¿quién {deed}?", "¿Cuál es la persona que {deed}?"),
    openings=(
        "Hoy hace {tiempo}.",
        "Hoy es {dia}.",
        "Había una vez un pequeño pueblo.",
        "El sol brilla.",
        "Los amigos se encuentran el {dia}.",
        "Hay nieve en la montaña.",
        "Cae la lluvia.",
    ),
    fillers=(
        "{animal} duerme bajo un árbol.",
        "Hay música en la calle.",
        "Todo el mundo está {humor}.",
        "El río está tranquilo.",
        "{animal} cruza el camino.",
        "Los niños juegan en el patio.",
        "El rey está {humor}.",
        "Suena una campana.",
        "La lluvia se para.",
        "Las flores del jardín son bonitas.",
        "La abuela cuenta una historia.",
    ),
    endings=(
        "Luego todos vuelven a casa.",
        "Por la noche están cansados.",
        "Fue un buen día.",
        "Sale la luna.",
        "Después cantan una canción.",
    ),
    question="Pregunta:",
    answer="Respuesta:",
    slots={
        "tiempo": ("sol", "frío", "calor", "viento", "fresco"),
        "dia": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
        "humor": ("contento", "triste", "tranquilo", "orgulloso", "sorprendido", "cansado"),
        "animal": _ANIMALS,
    },
)
