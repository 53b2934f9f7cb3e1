"""Associations: words that lead to another word, alone or a few together.

Many words that lead to the same one give the model a reason to keep that one in a neuron of its own."""

from random import Random

from training.text.item import capital
from training.text.words import NAMES

# word | words that go with it, in English, French and Spanish
TABLE = tuple(
    (row.split("|")[0], tuple(row.split("|")[1].split()))
    for row in """dog|kennel puppy lead bone collar tail stick bark hound leash chien perro
cat|kitten whiskers paw purr sofa saucer claws meow milk chat gato
horse|saddle stable foal hooves carriage gallop reins jockey rider cheval caballo
lion|mane roar pride savanna cub beast lioness tamer zoo león
bear|honey cave fur salmon den teddy paws winter growl ours oso
cow|milk calf farmer moos bell grass horns field butter vache vaca
sheep|wool lamb shepherd fleece flock meadow bleats mouton oveja
pig|mud snout barn piglet curly ham sty bacon cochon cerdo
mouse|cheese hole trap tail squeaks cellar tiny souris ratón
fish|fins scales hook bowl water river net worm poisson pez
bird|wings nest feathers egg beak song sky chick oiseau pájaro
fox|den sly red hens kit bushy hunt night renard zorro
wolf|pack howl moon forest pup teeth sledge loup lobo
rabbit|ears hops carrot burrow bunny hat magician lapin conejo
frog|pond tadpole croaks leaf prince fly green grenouille rana
duck|pond quack duckling webbed lake feather bread canard pato
owl|night wise hoot dark tree eyes hibou búho
monkey|banana swing tree rope jungle peel circus singe mono
elephant|trunk tusks ivory grey huge ears memory éléphant elefante
tiger|stripes jungle orange claws cub cage tigre
apple|core cider orchard pie teacher pips Newton worm pomme manzana
banana|peel yellow bent bunch monkey slip split ripe banane plátano
lemon|sour yellow juice squeeze tea peel citron limón
cherry|stone red cake pair tree sweet cerise
orange|juice peel round vitamin Valencia segment naranja
bread|baker loaf oven flour toast slice butter crumb pain pan
cheese|holes mouse milk slice pizza Dutch wheel fromage queso
honey|bee bear jar sweet comb spoon miel
cake|candles birthday icing wedding slice sweet cream tarta gâteau
soup|bowl spoon hot pot ladle starter soupe sopa
rain|umbrella cloud wet puddle drop roof gutter boots pluie lluvia
snow|white flake sledge ski winter shovel cold snowman neige nieve
wind|kite sail leaves blow storm mill flag vent viento
sun|day shine hot sky yellow rise set summer soleil sol
moon|night full crescent tide astronaut wolf silver lune luna
king|crown throne queen castle prince realm chess palace roi rey
queen|crown king bee throne lady gown palace reine reina
doctor|hospital medicine fever patient nurse pill clinic ill coat
teacher|school lesson class homework blackboard chalk pupil pencil
farmer|field cow tractor plough barn harvest seed hay
baker|bread oven flour cake dough shop early
soldier|army war drum gun march uniform flag
piano|keys pedal strings stool concert tuner black white ivory
guitar|strings pick neck strap rock chord fret song guitare guitarra
violin|bow strings orchestra chin concert fiddle
drum|stick beat march soldier skin loud tambour tambor
trumpet|brass blow band fanfare loud valve
red|blood tomato stop ladybird fire roses Santa bull rouge rojo
blue|sky sea jeans ink sapphire whale ocean bleu azul
green|grass leaf go frog emerald meadow vert verde
yellow|lemon banana sun canary butter sunflower jaune amarillo
white|snow milk bride paper swan flour blanc blanco
black|coal night raven ink tar piano noir negro
Paris|Eiffel Louvre Seine France fashion love tower
Rome|Pope Colosseum Caesar Italy Tiber pizza Romulus
London|Thames Ben England fog bridge king bus
Madrid|Spain Prado bull football Castile
Tokyo|Japan Fuji sushi emperor samurai
Cairo|Egypt Nile pyramid camel desert
Berlin|Germany wall bear gate Prussia
rose|thorn petal love garden Valentine bush scent red
tulip|Holland bulb spring petal Dutch cup
car|engine wheel garage road petrol driver brake voiture coche
train|rails station ticket driver tunnel whistle tren
boat|oar harbour sail river anchor row bateau barco
book|page cover library author read shelf chapter livre libro
clock|hands tick hour time face alarm reloj horloge
key|lock door ring turn hole piano llave clé
tree|root trunk branch leaf bark wood forest arbre árbol
house|roof door wall family garden chimney maison casa""".split("\n")
)
FORMS = (
    "{cues}: {w}.",
    "{Cues}. The word is {w}.",
    "What goes with {cues}?\nAnswer: {w}",
    "{Cues} make {n} think of {w}.",
    "Clues: {cues}.\nAnswer: {w}",
    "Say one word for {cues}. {W}!",
    '"{Cues}," said {n}. "{W}," said {m}.',
)


def association(rng: Random) -> str:
    word, cues = rng.choice(TABLE)
    chosen = ", ".join(rng.sample(cues, rng.randint(2, min(4, len(cues)))))
    n, m = rng.sample(NAMES, 2)
    return rng.choice(FORMS).format(cues=chosen, Cues=capital(chosen), w=word, W=capital(word), n=n, m=m)


def document(rng: Random) -> str:
    return "\n\n".join(association(rng) for _ in range(rng.randint(3, 7)))


def pairs(rng: Random) -> str:
    """Many pairs of a word and its associate, adjacent, so that nothing has to be retrieved."""
    drawn = (rng.choice(TABLE) for _ in range(rng.randint(6, 12)))
    return f"Pairs: {', '.join(f'{rng.choice(cues)} {word}' for word, cues in drawn)}."
