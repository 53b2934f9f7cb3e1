"""Headlamp's logo, drawn here so that nothing is fetched."""

_LAMP = (
    '<path d="M6 9h7a7 7 0 0 1 0 14H6z" fill="#c57e14"/>'
    '<path d="M23 10l7-3M24 16h8M23 22l7 3" stroke="#c57e14" stroke-width="2.4" stroke-linecap="round"/>'
)
ICON = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="2 0 34 32" width="64" height="64">{_LAMP}</svg>'
LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="2 2 150 28" width="300" height="56">'
    f'{_LAMP}<text x="40" y="23" font-family="sans-serif" font-size="20" font-weight="600" fill="#b36b00">'
    "Headlamp</text></svg>"
)
