"""Skill 6: the stories in Spanish."""

from demo.text.comprehension import Facet, Language

_ANIMALS = tuple(
    """un perro, un gato, un caballo, una vaca, una oveja, una cabra, un cerdo, un león, un tigre, un oso, un lobo,
    un zorro, un conejo, un ratón, una rana, un pez, un pájaro, un pato, una gallina, un búho, un águila, un mono, una jirafa,
    una cebra, un ciervo, una ardilla, una tortuga, una abeja, un cisne, un burro""".replace(
        "\n    ", " "
    ).split(", ")
)
_THINGS = tuple(
    """un libro, una lámpara, un tambor, una muñeca, un barco, un reloj, una campana, un abrigo, un sombrero,
    una bufanda, una cesta, una vela, un espejo, un paraguas, una silla, una bicicleta, una guitarra, una flauta, un lápiz,
    un anillo, un mapa, un cuchillo, un cubo, una manta, una pelota, una bandera, una llave, una cometa""".replace(
        "\n    ", " "
    ).split(", ")
)
_FOODS = tuple(
    """pan, queso, sopa, arroz, una manzana, una pera, un plátano, una naranja, unas cerezas, pescado, pollo, un pastel,
    una tarta, una ensalada, miel, un huevo, unas judías, pasta, unas uvas, una tortilla, chocolate, un melón, un tomate,
    una patata""".replace("\n    ", " ").split(", ")
)
_PLACES = tuple(
    """a la playa, al bosque, al río, a la estación, a la granja, a la biblioteca, a la montaña, al parque, al mercado,
    al museo, al castillo, al pueblo, al lago, al jardín, al teatro, al zoo, al cine, a la piscina, a la panadería, al puerto,
    al puente, al mar, al campo, a la plaza""".replace("\n    ", " ").split(", ")
)
_COLOURS = tuple(
    "de rojo, de azul, de verde, de negro, de blanco, de amarillo, de marrón, de rosa, de gris, de morado".split(
        ", "
    )
)

FACETS = (
    Facet(
        "comprar",
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
        ("¿Quién compró {v}?", "¿Qué persona compró {v}?", "¿Quién fue el que compró {v}?"),
    ),
    Facet(
        "ver",
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
        ("¿Quién vio {v}?", "¿Qué persona vio {v}?", "¿Quién fue el que vio {v}?"),
    ),
    Facet(
        "comer",
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
        ("¿Quién comió {v}?", "¿Qué persona comió {v}?", "¿Quién fue el que comió {v}?"),
    ),
    Facet(
        "ir",
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
        ("¿Quién va {v}?", "¿Qué persona va {v}?", "¿Quién es el que va {v}?"),
    ),
    Facet(
        "pintar",
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
        (
            "¿Quién pintó la puerta {v}?",
            "¿Qué persona pintó la puerta {v}?",
            "¿Quién fue el que pintó la puerta {v}?",
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
